"""The command line as tests type it, and what its commands need: a small training, an untrained run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import dafxhost
from dafxhost.training import runs
from dafxhost.training.controller import Controller
from dafxhost_cli import main as cli
from dafxhost_encoders.logmel import LogMelEncoder

RATE, SAMPLES = 24000, 16384  # of untrained runs
Call = Callable[..., tuple[int, str, str]]

_SMALL = """
samples = 8192
loss_samples = 0
fft_sizes = [128, 512]
pool = 32
hidden = 16
supervised_batch = 8
supervised_steps = 5
end_to_end_steps = {steps}
epoch_steps = 2
batch = 2
validation = 2
corpus_bank = 4
alternatives = 1
directions = 1
max_minutes = 4.0
"""


def small_training(steps: int) -> str:
    """A configuration of `dafxhost train` for a run of seconds, with so many steps end to end."""
    return _SMALL.format(steps=steps)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run the command line in this process, in `tmp_path`: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dafxhost", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            cli.main()
        words = capsys.readouterr()
        return int(info.value.code or 0), words.out, words.err

    return run_here


def make_run(
    folder: Path, effect: str = "mda-combo", name: str | None = None, favour: int | None = None
) -> Path:
    """A run with an untrained controller; `favour` is the model that it always chooses."""
    torch.manual_seed(1)
    fx = dafxhost.effect(effect)
    controller = Controller(LogMelEncoder(), fx.parameters, hidden=16, depth=1)
    if favour is not None:
        with torch.no_grad():
            controller.head.bias.view(controller.values.shape)[0, favour] += 50
    path = runs.new_run(effect, folder) if name is None else folder / name
    path.mkdir(exist_ok=True)
    runs.save_controller(path, "best", controller, runs.card_of(fx, controller, RATE, SAMPLES))
    return path
