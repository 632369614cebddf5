"""The trainer of all autoencoders: epochs, schedules, early stopping, interruption; and its commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoencoder_clips import RATE, NoteClips, notes
from command_line import Call
from dafxhost.data.corpus import SyntheticCorpus
from dafxhost.encoders import load_encoder, save_encoder
from dafxhost.errors import AudioFileError, OutputError, UnknownNameError, UsageError
from dafxhost_encoders.autoencoder import measure
from dafxhost_encoders.effect_clips import ClipBatch, EffectClips
from dafxhost_encoders.epochs import Epoch, Epochs
from dafxhost_encoders.logmel import LogMelEncoder
from dafxhost_encoders.pretrain import Plan, kl_weight, pretrain
from dafxhost_encoders.spectrogram_vae import SpectrogramVAE
from dafxhost_encoders.trainables import TRAINABLES, PretrainJob, trainable

TINY: dict[str, Any] = {
    "embedding_size": 8,
    "n_fft": 256,
    "hop": 256,
    "input": "mel",
    "mels": 12,
    "patch_frames": 16,
    "channels": [4, 8],
    "beta": 0.05,
}
SHORT: dict[str, Any] = {"examples": 8, "held_out": 8, "batch": 8, "max_minutes": 4.0, "max_steps": 4}


def tiny() -> SpectrogramVAE:
    torch.manual_seed(1)
    return SpectrogramVAE(**TINY)


def train(out: Path, clips: NoteClips | None = None, **plan: Any) -> dict[str, Any]:
    on_step = plan.pop("on_step", None)
    return pretrain(
        tiny(), clips or NoteClips(), NoteClips(), out, Plan(**{**SHORT, **plan}), on_step=on_step
    )


def test_training_beats_the_constant_by_far(tmp_path: Path) -> None:
    """The weekly reports' VAE reconstructed worse than a constant (RMSE .003 where the mean was .002)."""
    steps: list[dict[str, Any]] = []
    figures = train(
        tmp_path / "vae", examples=32, batch=16, held_out=16, max_steps=64, learning_rate=8e-3,
        on_step=steps.append,
    )  # fmt: skip
    assert figures["explained"] > 0.6 and figures["explained_beyond_mean"] > 0.4
    assert figures["rmse"] < 0.7 * figures["constant_rmse"]
    assert figures["active_latents"] >= 3
    assert [s["step"] for s in steps] == list(range(1, 65)) and figures["stopped"] == "steps"
    assert all(np.isfinite([s["total"], s["reconstruction"], s["divergence"]]).all() for s in steps)
    assert steps[-1]["progress"] == 1.0
    # What was written is what was measured.
    vae = load_encoder(figures["weights"])
    assert isinstance(vae, SpectrogramVAE)
    batch = NoteClips().start(16, (1, 1, 0))()
    inputs = vae.inputs(torch.from_numpy(batch.clean), torch.from_numpy(batch.processed), RATE)
    assert measure(vae, inputs).explained == pytest.approx(figures["explained"], abs=1e-4)
    # The curve: one line an epoch, the best of them the written one.
    lines = [json.loads(line) for line in Path(figures["log"]).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, figures["epochs"] + 1))
    best = max(lines, key=lambda line: line["explained_beyond_mean"])
    assert best["epoch"] == figures["best_epoch"] and best["explained"] == figures["explained"]


def test_it_repeats_itself(tmp_path: Path) -> None:
    def run(seed: int) -> dict[str, Any]:
        encoder = tiny()
        state = torch.get_rng_state()
        out = pretrain(encoder, NoteClips(), NoteClips(), tmp_path / "vae", Plan(**SHORT, seed=seed, renew=1))
        assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
        return {k: v for k, v in out.items() if "seconds" not in k}

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_it_ends_in_time(tmp_path: Path) -> None:
    figures = train(tmp_path / "vae", max_minutes=1 / 60, max_steps=None, examples=100_000)
    assert figures["seconds"] < 30 and figures["steps"] >= 1 and figures["stopped"] == "time"


def test_a_number_of_epochs(tmp_path: Path) -> None:
    figures = train(tmp_path / "vae", max_steps=None, max_epochs=3)
    assert figures["epochs"] == 3 and figures["stopped"] == "epochs"
    assert figures["steps"] == 3 * (8 * 4 // 8)  # 8 clips of 49 frames: 4 patches of 16 each, in batches of 8
    assert figures["examples_an_epoch"] == 16


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_batches_are_drawn_without_replacement(inputs: int, size: int, seed: int) -> None:
    epoch = Epoch(torch.arange(inputs)[:, None], inputs, 0)
    batches = list(epoch.batches(size, (seed,)))
    assert sorted(torch.cat(batches).flatten().tolist()) == list(range(inputs))
    assert [len(b) for b in batches[:-1]] == [size] * (len(batches) - 1) and 1 <= len(batches[-1]) <= size


@pytest.mark.parametrize(
    ("turns", "renew"), [(False, 1), (False, 3), (False, 0), (True, 1), (True, 2), (True, 0)]
)
def test_how_long_examples_serve(turns: bool, renew: int) -> None:
    clips = NoteClips()
    with Epochs(clips, tiny(), 4, 1, turns=turns, renew=renew) as epochs:
        taken = [epochs.take(i).inputs for i in range(8)]
        assert epochs.round == (2 if turns else 1)
        fresh = [epochs.fresh(i) for i in range(8)]
        names = [epochs.effect(i) for i in range(4)]
    assert names == (["clip", "dull", "clip", "dull"] if turns else [""] * 4)
    for i in range(8):
        before = i - epochs.round
        same = before >= 0 and torch.equal(taken[i], taken[before])
        served = (i // epochs.round) % renew if renew else i // epochs.round
        assert same == (served > 0) and fresh[i] != same
    if turns:
        assert {effect for _, _, effect in clips.started} == {0, 1}


def test_patience_waits_for_every_effect(tmp_path: Path) -> None:
    """A learning rate of next to nothing: nothing improves, and it stops after whole rounds."""
    for turns, patience, most in ((True, 1, 1 + 2), (True, 2, 1 + 4), (False, 2, 1 + 2)):
        figures = train(
            tmp_path / "vae", turns=turns, patience=patience, max_steps=None, max_epochs=30,
            learning_rate=1e-30,
        )  # fmt: skip
        assert figures["stopped"] == "patience" and figures["best_epoch"] == 1
        assert figures["epochs"] == most


def test_kl_weights() -> None:
    at = [0.0, 0.05, 0.1, 0.125, 0.2, 0.25, 0.3, 0.375, 0.6, 0.99]
    assert [kl_weight("constant", p) for p in at] == [1.0] * len(at)
    assert [kl_weight("linear", p) for p in at[:4]] == pytest.approx([0.0, 1 / 6, 1 / 3, 5 / 12])
    assert [kl_weight("linear", p) for p in at[6:]] == pytest.approx([1.0] * 4)
    # Four cycles of 0.25; in the first half of each it rises (Fu 2019, figure 1).
    cyclical = [kl_weight("cyclical", p) for p in at]
    assert cyclical == pytest.approx([0.0, 0.4, 0.8, 1.0, 1.0, 0.0, 0.4, 1.0, 0.8, 1.0])


def test_the_schedule_reaches_the_loss(tmp_path: Path) -> None:
    vae, inputs = tiny().eval(), torch.rand(4, 12, 16)
    plain, weighted = vae.loss(inputs), vae.loss(inputs, 0.25)
    torch.testing.assert_close(weighted[0] - weighted[1], 0.25 * (plain[0] - plain[1]), atol=1e-6, rtol=1e-3)
    steps: list[dict[str, Any]] = []
    train(tmp_path / "vae", schedule="linear", max_steps=20, on_step=steps.append)
    shares = [(s["total"] - s["reconstruction"]) / s["divergence"] for s in steps]
    assert shares[0] == pytest.approx(0.0, abs=1e-9) and shares[3] < shares[5] < shares[-1]
    assert shares[-1] == pytest.approx(0.05 / (12 * 16), rel=0.01)


def test_ctrl_c_keeps_the_best_weights(tmp_path: Path) -> None:
    def stop_at(step: int) -> Callable[[dict[str, Any]], None]:
        def on_step(event: dict[str, Any]) -> None:
            if event["step"] == step:
                raise KeyboardInterrupt

        return on_step

    for name, step in (("first-epoch", 1), ("later", 9)):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / name, max_steps=50, on_step=stop_at(step))
        assert isinstance(load_encoder(tmp_path / name), SpectrogramVAE)
    lines = (tmp_path / "later.log.jsonl").read_text().splitlines()
    best = max(json.loads(line)["explained"] for line in lines)
    vae = load_encoder(tmp_path / "later")
    assert isinstance(vae, SpectrogramVAE)
    batch = NoteClips().start(8, (1, 1, 0))()
    inputs = vae.inputs(torch.from_numpy(batch.clean), torch.from_numpy(batch.processed), RATE)
    assert measure(vae, inputs).explained == pytest.approx(best, abs=1e-4)


def test_interrupted_before_its_first_step_it_leaves_older_weights_alone(tmp_path: Path) -> None:
    class Interrupted(NoteClips):
        def start(self, n: int, seed: Sequence[int], effect: int | None = None) -> Callable[[], ClipBatch]:
            raise KeyboardInterrupt

    older = save_encoder(tiny(), tmp_path / "vae").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny(), NoteClips(), Interrupted(), tmp_path / "vae", Plan(**SHORT))
    assert (tmp_path / "vae.safetensors").read_bytes() == older


def test_silence_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="nothing to train on"):
        train(tmp_path / "vae", NoteClips(silent=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "plan",
    [{"max_minutes": 0}, {"max_steps": 0}, {"max_epochs": 0}, {"batch": 0}, {"examples": 0}, {"held_out": 0},
     {"schedule": "square"}, {"patience": -1}, {"renew": -1}, {"learning_rate": 0.0}],
)  # fmt: skip
def test_impossible_plans_are_named(tmp_path: Path, plan: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        train(tmp_path / "vae", **plan)


def test_it_says_at_once_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.safetensors").mkdir()
    clips = NoteClips()
    for out in (tmp_path / "file" / "vae", tmp_path / "folder"):
        with pytest.raises(OutputError, match="cannot write"):
            train(out, clips)
    assert clips.started == []


@pytest.fixture(scope="module")
def corpus() -> SyntheticCorpus:
    return SyntheticCorpus(RATE, 1, "train", bank=2)


@pytest.fixture(scope="module")
def two_effects(corpus: SyntheticCorpus) -> Any:
    with EffectClips(corpus, ["mda-overdrive", "mda-delay"], seconds=0.5, workers=1) as clips:
        yield clips


def test_clips_go_through_their_effects(two_effects: EffectClips) -> None:
    """What comes back is what each effect makes of its clip at its setting, rendered by itself."""
    from dafxhost import Executor, effect

    batch = two_effects.start(12, (3, 1))()
    assert batch.clean.shape == batch.processed.shape == (12, 1, 12_000)
    np.testing.assert_allclose(np.abs(batch.clean).max(axis=(1, 2)), 10 ** (-12 / 20), rtol=1e-5)
    assert {0, 1} <= set(batch.effects.tolist()) <= {-1, 0, 1}
    for index, name in enumerate(two_effects.effects):
        rows = np.flatnonzero(batch.effects == index)
        settings = np.stack([batch.settings[row] for row in rows])
        with Executor(effect(name), workers=1) as executor:
            wet = executor.render(batch.clean[rows], settings, RATE)
        np.testing.assert_array_equal(batch.processed[rows], wet)
    clean = batch.effects == -1
    np.testing.assert_array_equal(batch.processed[clean], batch.clean[clean])


def test_draws_depend_on_the_seed_alone(two_effects: EffectClips) -> None:
    first, again = two_effects.start(6, (5,))(), two_effects.start(6, (5,))()
    np.testing.assert_array_equal(first.processed, again.processed)
    assert not np.array_equal(first.clean, two_effects.start(6, (6,))().clean)
    assert set(two_effects.start(60, (7,), 1)().effects.tolist()) == {-1, 1}


def test_effects_come_equally_often(two_effects: EffectClips) -> None:
    drawn = [two_effects._which(10, None, np.random.default_rng(i)) for i in range(40)]
    counts = np.bincount(np.concatenate(drawn) + 1, minlength=3) / 400
    assert 0.05 < counts[0] < 0.16 and abs(counts[1] - counts[2]) < 0.06


def test_without_effects_clips_stay_clean(corpus: SyntheticCorpus) -> None:
    with EffectClips(corpus, [], seconds=0.25) as clips:
        batch = clips.start(3, (1,))()
    np.testing.assert_array_equal(batch.processed, batch.clean)


def test_impossible_clips_are_named(corpus: SyntheticCorpus) -> None:
    with pytest.raises(UnknownNameError, match="mda-overdrive"):
        EffectClips(corpus, ["mda-overdriv"])
    with pytest.raises(UsageError, match="twice"):
        EffectClips(corpus, ["mda-delay", "mda-delay"])
    with pytest.raises(UsageError, match="last from"):
        EffectClips(corpus, [], seconds=0)


def test_the_table_is_complete() -> None:
    """Every entry is a registered encoder, and has a trainer that can be imported."""
    from dafxhost.registry import load_attribute, registry

    assert len({entry.name for entry in TRAINABLES}) == len(TRAINABLES) >= 3
    for entry in TRAINABLES:
        assert entry.name in registry().names("encoder") and entry.summary
        assert callable(load_attribute(entry.trainer, entry.name))
    with pytest.raises(UnknownNameError, match="mel-cae"):
        trainable("mel-caf")
    with pytest.raises(UsageError, match="takes no --join"):
        trainable("mel-cae").train(PretrainJob(Path("x"), options={"join": "concat"}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(2)
    for i in range(3):
        soundfile.write(path / f"{i}.wav", np.tile(notes(rng, 2).reshape(-1), 3), RATE)
    return path


QUICK = ("--max-steps", "2", "--examples", "3", "--effects", "none", "--seed", "3")


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("spectrogram-vae", ("--latent", "16", "--beta", "2", "--kl-schedule", "cyclical"), 16),
        pytest.param(
            "spectrogram-vae",
            ("--input", "stft", "--compression", "log", "--strides", "3,2"),
            128,
            marks=pytest.mark.slow,
        ),
        ("mel-cae", ("--mels", "10", "--frames", "474", "--hop", "256", "--latent", "8"), 8),
        ("embedding-vae", ("--join", "concat", "--latent", "256"), 974),
    ],
)
def test_pretrain_as_typed(
    call: Call, tmp_path: Path, folder: Path, name: str, options: tuple[str, ...], size: int
) -> None:
    code, out, err = call("pretrain", name, "--out", "w", "--data", folder, *QUICK, *options, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["steps"] == 2 and said["weights"] == "w.safetensors" and said["effects"] == []
    encoder = load_encoder(tmp_path / "w")
    assert (encoder.name, encoder.embedding_size) == (name, size)
    if name != "embedding-vae":
        code, out, err = call("reconstruct", "w.safetensors", folder / "0.wav", "-o", "r.wav", "--json")
        assert code == 0, err
        audio, rate = soundfile.read(tmp_path / "r.wav")
        assert rate == RATE and len(audio) == 6 * 12_288 and json.loads(out)["explained"] < 1


@pytest.mark.slow
def test_going_on_with_weights(call: Call, tmp_path: Path, folder: Path) -> None:
    first = ("pretrain", "mel-cae", "--data", folder, *QUICK)
    assert call(*first, "--out", "a", "--latent", "8")[0] == 0
    code, _, err = call(*first, "--out", "b", "--start-from", "a.safetensors", "--json")
    assert code == 0, err
    assert load_encoder(tmp_path / "b").embedding_size == 8
    a, b = (load_encoder(tmp_path / name).state_dict() for name in "ab")
    assert torch.equal(a["centre"], b["centre"])
    code, _, err = call(*first, "--out", "c", "--start-from", "a.safetensors", "--latent", "9")
    assert code == 2 and "has embedding_size 8" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("mel-caf",), 2, "did you mean mel-cae"),
        (("mel-cae", "--beta", "2"), 2, "mel-cae takes no --beta"),
        (("spectrogram-vae", "--latent", "0"), 2, "embedding_size"),
        (("spectrogram-vae", "--strides", "a"), 2, "--strides"),
        (("spectrogram-vae", "--draw", "some"), 2, "mixed or turns"),
        (("spectrogram-vae", "--kl-schedule", "some"), 2, "constant, linear, cyclical"),
        (("spectrogram-vae", "--device", "tpu"), 2, "cpu or cuda"),
        (("spectrogram-vae", "--effects", "mda-dela"), 2, "did you mean mda-delay"),
        (("spectrogram-vae", "--data", "empty"), 1, "empty holds no audio file"),
        (("spectrogram-vae", "--data", "silent"), 1, "nothing that sounds"),
        (("embedding-vae", "--encoder", "log-mell"), 2, "did you mean log-mel"),
        (("embedding-vae", "--encoder-weights", "nowhere"), 1, "no encoder at nowhere"),
        (("embedding-vae", "--encoder", "mel-cae", "--encoder-weights", "logmel"), 2, "not 'mel-cae'"),
        (("mel-cae", "--start-from", "logmel"), 2, "not 'mel-cae'"),
        (("embedding-vae", "--join", "difference", "--data", "sounds"), 1, "went through no effect"),
    ],
)
def test_bad_requests_are_one_sentence(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name, audio in (("silent", np.zeros(RATE)), ("sounds", notes(np.random.default_rng(1), 1)[0, 0])):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "0.wav", audio, RATE)
    save_encoder(LogMelEncoder(embedding_size=4, channels=(8,)), tmp_path / "logmel")
    quick = () if "--effects" in arguments else ("--effects", "none")
    got, out, err = call("pretrain", *arguments, *quick, "--out", "x", "--max-steps", "1", "--examples", "2")
    assert got == code and words in err and out == "", err
    assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err
    assert not (tmp_path / "x.safetensors").exists()


def test_reconstruct_moves_latents_and_makes_sounds(call: Call, tmp_path: Path, folder: Path) -> None:
    save_encoder(tiny(), tmp_path / "vae")
    wav = folder / "0.wav"
    big = {**TINY, "hop": 64}
    save_encoder(SpectrogramVAE(**big), tmp_path / "vae")
    code, out, err = call(
        "reconstruct", "vae", wav, "--traverse", "2", "--steps", "3", "-o", "t.wav", "--json"
    )
    assert code == 0, err
    starts = json.loads(out)["starts"]
    assert starts == pytest.approx([0.0, 3.372, 6.744])
    assert soundfile.info(tmp_path / "t.wav").duration == pytest.approx(3 * 3.072 + 0.6)
    code, out, err = call("reconstruct", "vae", "--generate", "2", "-o", "g.wav")
    assert code == 0 and "2 sounds" in out, err
    code, out, err = call("reconstruct", "vae", wav, "--phase", "griffin-lim", "-o", "p.wav")
    assert code == 0 and "explained" in out, err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("vae",), 2, "name a recording"),
        (("vae", "a.wav", "--generate", "2"), 2, "name a recording"),
        (("vae", "a.wav", "--traverse", "8"), 2, "none of 0..7"),
        (("vae", "a.wav", "--phase", "x"), 2, "griffin-lim"),
        (("vae", "silent.wav"), 1, "silent.wav is silent"),
        (("vae", "nowhere.wav"), 1, "nowhere.wav"),
        (("vae", "a.wav", "-o", "no/where.wav"), 1, "there is no folder no"),
        (("logmel", "a.wav"), 2, "rebuilds no spectrogram"),
        (("nothing", "a.wav"), 1, "no encoder at nothing"),
    ],
)
def test_bad_reconstructions_are_one_sentence(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    save_encoder(SpectrogramVAE(**{**TINY, "hop": 64}), tmp_path / "vae")
    save_encoder(LogMelEncoder(embedding_size=4, channels=(8,)), tmp_path / "logmel")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "a.wav", notes(np.random.default_rng(1), 1)[0, 0], RATE)
    got, out, err = call("reconstruct", *arguments)
    assert got == code and words in err and out == "", err
    assert len(err.splitlines()) == 1 and not (tmp_path / "reconstructed.wav").exists()
