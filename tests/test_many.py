"""One controller for several effects: what is shared, what is not, and how its parts are found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dafxhost
from command_line import RATE, SAMPLES, Call, make_run
from dafxhost.errors import RunError, UsageError
from dafxhost.run_folders import MANY, member
from dafxhost.training import many, runs
from dafxhost.training.config import from_dict
from dafxhost.training.controller import Controller
from dafxhost_encoders.logmel import LogMelEncoder

EFFECTS = ("mda-overdrive", "mda-delay")


def controllers() -> list[Controller]:
    torch.manual_seed(0)
    made = [Controller(LogMelEncoder(), dafxhost.effect(n).parameters, hidden=8, depth=2) for n in EFFECTS]
    many.share(made)
    return made


def test_effects_share_all_but_their_own_vector_and_head(tmp_path: Path) -> None:
    a, b = (c.eval() for c in controllers())
    assert a.encoder is b.encoder
    own = {n for n, p in b.named_parameters() if not any(p is q for q in a.parameters())}
    assert own == {"body.1.bias", "head.weight", "head.bias"}
    assert len(many.shared_weights([a, b])) == len(list(a.parameters())) + len(own)
    x, y = torch.randn(2, 3, a.encoder.embedding_size)
    before = a(x, y).detach()
    optimiser = torch.optim.AdamW(many.shared_weights([a, b]), lr=1e-2)
    optimiser.zero_grad()
    b(x, y).logsumexp(dim=-1).sum().backward()
    head = a.head.weight.detach().clone()
    optimiser.step()
    assert torch.equal(a.head.weight, head)  # a step for one effect leaves the other's head alone
    assert not torch.equal(a(x, y), before)  # and moves the body under it
    a.standardise(torch.randn(10, a.encoder.embedding_size))
    assert torch.equal(a.mean, b.mean)
    fx = dafxhost.effect(EFFECTS[1])
    runs.save_controller(tmp_path, "best", b, runs.card_of(fx, b, RATE, SAMPLES))
    kept = runs.load_run(tmp_path, effect=fx).controller  # an ordinary run
    torch.testing.assert_close(kept(x, y), b(x, y))


def test_controllers_of_different_shape_share_nothing() -> None:
    made = [
        Controller(LogMelEncoder(), dafxhost.effect(n).parameters, hidden=8 * (i + 1), depth=1)
        for i, n in enumerate(EFFECTS)
    ]
    with pytest.raises(UsageError, match="one encoder and the same options"):
        many.share(made)


def run_of_many(folder: Path) -> Path:
    """As training leaves it, but untrained."""
    path = folder / "both"
    for name in EFFECTS:
        many.member_folder(path, name).mkdir(parents=True)
        make_run(path / "effects", effect=name, name=name)
    (path / MANY).write_text(
        '{"format": 1, "effects": {"mda-overdrive": "mda-overdrive", "mda-delay": "mda-delay"}}'
    )
    return path


def test_a_part_is_chosen_by_its_effect(tmp_path: Path, call: Call) -> None:
    import soundfile

    path = run_of_many(tmp_path / "runs")
    assert runs.load_run(path, effect=dafxhost.effect("mda-delay")).effect_name == "mda-delay"
    assert runs.newest_run(tmp_path / "runs", "mda-overdrive") == path / "effects" / "mda-overdrive"
    assert member(path / "effects" / "mda-delay", None) == path / "effects" / "mda-delay"
    with pytest.raises(RunError, match="is for mda-overdrive, mda-delay; name one of them with --effect"):
        runs.load_run(path)
    with pytest.raises(RunError, match="not for 'mda-combo'"):
        member(path, "mda-combo")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(30000), RATE)
    code, out, err = call("transfer", "a.wav", "b.wav", "--run", path, "--effect", "mda-delay", "--json")
    assert code == 0, err
    assert '"effect": "mda-delay"' in out
    (path / MANY).write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        member(path, "mda-delay")


def test_bad_requests_leave_no_folder(tmp_path: Path, call: Call) -> None:
    for effects in (["mda-delay"], ["mda-delay", "mda-delay"]):
        with pytest.raises(UsageError, match="two or more different ones"):
            many.train_many(None, effects, runs_dir=tmp_path / "runs")
    code, _, err = call("train", "--effects", "mda-delay,mda-combo", "--effect", "mda-combo")
    assert code == 2
    assert "leave out --effect" in err
    assert not (tmp_path / "runs").exists()


def test_two_effects_are_trained_by_turns(tmp_path: Path) -> None:
    config = from_dict(
        {
            "samples": 8192, "loss_samples": 0, "fft_sizes": [128], "pool": 16, "hidden": 8, "depth": 1,
            "supervised_batch": 8, "supervised_steps": 3, "end_to_end_steps": 2, "epoch_steps": 2, "batch": 2,
            "validation": 2, "corpus_bank": 2, "alternatives": 1, "directions": 1, "max_minutes": 4.0,
            "workers": 1, "encoder_options": {"mels": 4, "linear": 4}, "augment": False,
        }
    )  # fmt: skip
    seen: list[tuple[str, str]] = []
    done = many.train_many(
        config, EFFECTS, run_dir=tmp_path / "run", on_event=lambda e: seen.append((e["event"], e["effect"]))
    )
    assert done.rounds == 2
    assert [name for event, name in seen if event == "step"] == [*EFFECTS, *EFFECTS]
    parts = [runs.load_run(member(done.run, name), "last").controller.state_dict() for name in EFFECTS]
    same = {k for k in parts[0] if torch.equal(parts[0][k], parts[1][k])} if len(parts) == 2 else set()
    assert {"body.1.weight", "body.2.weight", "mean", "scale"} <= same
    assert "body.1.bias" not in same
    for name in EFFECTS:
        assert np.isfinite(list(done.effects[name].values())).all()
        names = {p.name for p in member(done.run, name).iterdir()}
        assert not names & {"pool.safetensors", "state.safetensors"}
