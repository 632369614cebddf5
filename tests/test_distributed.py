"""Several processes as one: two of them on the CPU take the steps of one with twice the batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dafxhost.errors import UsageError
from dafxhost.training import distributed, precision
from dafxhost.training.config import TrainConfig
from dafxhost.training.controller import Controller
from distributed_lab import network, steps

TESTS = Path(__file__).resolve().parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """What two processes wrote, and how each ended."""
    folder = tmp_path_factory.mktemp("pair")
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, TESTS / "distributed_lab.py", folder],
            env={**os.environ, **common, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = []
    try:
        for process in started:
            _, words = process.communicate(timeout=240)
            ended.append(subprocess.CompletedProcess(process.args, process.returncode, "", words))
    finally:
        for process in started:
            process.kill()
            process.wait()
    return folder, ended


def test_two_processes_take_the_steps_of_one_with_twice_the_batch(
    pair: tuple[Path, list[subprocess.CompletedProcess[str]]],
) -> None:
    told = [json.loads((pair[0] / f"{rank}.json").read_text()) for rank in range(2)]
    torch.manual_seed(0)
    alone = network()
    alone[3].requires_grad_(False)  # averaging gives it a gradient of 0, which decays it by 1e-2 * lr a step
    for weights, one in zip(told[0]["weights"][:4], steps(alone, slice(None), None), strict=False):
        torch.testing.assert_close(torch.tensor(weights), one, rtol=1e-5, atol=1e-6)
    assert told[0]["weights"] == told[1]["weights"]
    assert [t["agreed"] for t in told] == [10, 10]
    assert [t["any"] for t in told] == [[True, False]] * 2


def test_when_a_process_fails_the_other_ends_with_its_message(
    pair: tuple[Path, list[subprocess.CompletedProcess[str]]],
) -> None:
    first, second = pair[1]
    assert second.returncode == first.returncode == 1
    assert "error: the plugin fell over" in second.stderr
    assert "error: process 1 of 2 ended: the plugin fell over" in first.stderr
    assert "Traceback" not in first.stderr + second.stderr


def test_a_process_alone_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not distributed.several()
    monkeypatch.setenv("RANK", "3")
    assert distributed.rank() == 0
    alone = distributed.Alone()
    assert (alone.agree(3), alone.any(True), alone.any(False)) == (3, True, False)


def test_every_process_has_its_own_device_seed_and_share_of_workers() -> None:
    config = TrainConfig(device="cuda", seed=5)
    first, second = (distributed.share_of(config, r, r, 2) for r in range(2))
    assert (first.device, second.device) == ("cuda:0", "cuda:1")
    assert first.seed == 5 != second.seed
    assert first.workers == second.workers == max(1, len(os.sched_getaffinity(0)) // 2)
    assert (first.validation, second.validation) == (config.validation, 1)
    with pytest.raises(UsageError, match="patience needs a single process"):
        distributed.share_of(config.replace(patience=3), 0, 0, 2)
    with pytest.raises(UsageError, match="start without torchrun"):
        distributed.train_together(None, "runs/x", None, "runs", None)


def controller() -> Controller:
    import dafxhost

    torch.manual_seed(0)
    encoder = dafxhost.encoder("style-statistics", mels=4, linear=4)
    return Controller(encoder, dafxhost.effect("mda-overdrive").parameters, hidden=16, depth=2, dropout=0.0)


def test_mixed_precision_is_close_keeps_names_and_gives_float32() -> None:
    exact, mixed = controller(), controller()
    scaler = precision.prepare(mixed, "bfloat16", False, torch.device("cpu"))
    assert not scaler.is_enabled()
    x, y = torch.randn(2, 5, exact.encoder.embedding_size)
    a, b = exact(x, y), mixed(x, y)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    real = a > -1e6
    torch.testing.assert_close(b[real], a[real], rtol=0.05, atol=0.05)
    assert list(mixed.state_dict()) == list(exact.state_dict())
    mixed.supervised_loss(b, torch.full((5, 3), 0.5)).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in mixed.body.parameters())


def test_precisions_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(UsageError, match=r"float16.*cuda"):
        precision.prepare(controller(), "float16", False, torch.device("cpu"))
    with pytest.raises(UsageError, match="precision must be one of float32, bfloat16, float16"):
        TrainConfig(precision="int8")
