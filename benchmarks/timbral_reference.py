"""dafxhost.timbre beside the reference package `timbral_models` 0.4.0: speed, agreement, failures.

The reference wants an environment of its own (it is a yardstick here, never a dependency)::

    E=/tmp/timbral-env; export SKLEARN_ALLOW_DEPRECATED_SKLEARN_PACKAGE_INSTALL=True
    uv venv -p 3.11 $E
    uv pip install -p $E/bin/python librosa soundfile pyloudnorm scikit-learn six setuptools wheel
    uv pip install -p $E/bin/python --no-deps --no-build-isolation timbral_models==0.4.0

Then::

    python benchmarks/timbral_reference.py clips FOLDER --data RECORDINGS   # 520 clips of 5 s
    python benchmarks/timbral_reference.py run FOLDER --python $E/bin/python -o SPEED.json
    python benchmarks/timbral_reference.py run FOLDER --python $E/bin/python -o VALUES.json --share
    python benchmarks/timbral_reference.py renew FOLDER VALUES.json        # after a change of ours
    python benchmarks/timbral_reference.py freeze --python $E/bin/python   # for the tests

`run` goes through the clips one by one: the reference takes its turn in a process of its own, then dafxhost
in this one, each with one thread, never both at once; times are processor time. The reference is called as
its `timbral_extractor` does it (mono sum and resampling once, then the eight models), with two differences: a
model that fails does not take the others with it, and reverb gets the audio at the rate that it is told (the
extractor gives it the original samples and the new rate, where the rate is below 44.1 kHz).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402  (after the number of threads)

NAMES = ("hardness", "depth", "brightness", "roughness", "warmth", "sharpness", "boominess", "reverb")
EFFECTS = (
    "ambience", "combo", "delay", "dynamics", "leslie", "limiter", "multiband", "overdrive", "ringmod",
    "subsynth", "thruzero",
)  # fmt: skip
SECONDS = 5.0
RATE, SPEECH_RATE = 44100, 16000
KINDS = {"music": 0.44, "synthetic": 0.24, "speech": 0.16, "noise": 0.16}


# --- the reference's process: numpy, librosa, timbral_models ---------------------------------------------


def _shim() -> None:
    """The four names that the reference calls as they were in 2018."""
    import librosa

    np.lib.pad = np.pad  # type: ignore[attr-defined]

    def with_rate(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda y, sr=22050, **options: function(y=y, sr=sr, **options)

    resample = librosa.resample
    librosa.onset.onset_detect = with_rate(librosa.onset.onset_detect)
    librosa.onset.onset_strength = with_rate(librosa.onset.onset_strength)
    librosa.core.resample = lambda y, orig_sr, target_sr: resample(y, orig_sr=orig_sr, target_sr=target_sr)


def _share() -> None:
    """Let the models share what they compute several times over; values stay the same to the bit.

    For the comparison of values, where the reference's time would be the better part of an hour.
    """
    import scipy.signal
    import timbral_models.timbral_util as util

    scipy.signal.cheby1 = functools.lru_cache(scipy.signal.cheby1)
    util.butter = functools.lru_cache(scipy.signal.butter)
    butter = functools.lru_cache(lambda n, edges, kind: util.butter.__wrapped__(n, list(edges), kind))
    scipy.signal.butter = lambda n, edges, kind: butter(n, tuple(edges), kind)
    loudness, known = util.specific_loudness, {}

    def once(x: np.ndarray, **options: Any) -> tuple[float, np.ndarray]:
        if len(known) > 500:
            known.clear()
        key = (x.tobytes(), *options.values())
        if key not in known:
            known[key] = loudness(x, **options)
        return known[key][0], known[key][1].copy()

    util.specific_loudness = once


def _reference(audio: np.ndarray, rate: int) -> tuple[dict[str, float], dict[str, str]]:
    """Values and failures of `[C, T]`."""
    import timbral_models as tm

    models = {
        "hardness": tm.timbral_hardness, "depth": tm.timbral_depth, "brightness": tm.timbral_brightness,
        "roughness": tm.timbral_roughness, "warmth": tm.timbral_warmth, "sharpness": tm.timbral_sharpness,
        "boominess": tm.timbral_booming, "reverb": tm.timbral_reverb,
    }  # fmt: skip
    samples = audio.T.astype(np.float64) if len(audio) > 1 else audio[0].astype(np.float64)
    mono, new_rate = tm.check_upsampling(tm.channel_reduction(samples), rate)
    if new_rate != rate:
        channels = [tm.check_upsampling(x, rate)[0] for x in np.atleast_2d(samples.T)]
        samples = np.stack(channels, axis=1) if len(channels) > 1 else channels[0]
    values, failures = {}, {}
    for name, model in models.items():
        try:
            value = float(model((samples if name == "reverb" else mono).copy(), fs=new_rate))
        except Exception as error:  # noqa: BLE001  (whatever a model raises is what is counted)
            failures[name] = f"{type(error).__name__}: {error}"[:100]
        else:
            if np.isfinite(value):
                values[name] = value
            else:
                failures[name] = f"value {value}"
    return values, failures


def _worker(share: bool) -> None:
    """Paths of .npz on stdin, a line of JSON for each on stdout."""
    import warnings

    warnings.simplefilter("ignore")
    _shim()
    if share:
        _share()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        with np.load(line.strip()) as clip:
            audio, rate = clip["audio"], int(clip["rate"])
        began = time.process_time()
        values, failures = _reference(audio, rate)
        seconds = time.process_time() - began
        answers.write(json.dumps({"values": values, "failures": failures, "seconds": seconds}) + "\n")
        answers.flush()


class Reference:
    """The reference in a process of its own. Use as a context manager."""

    def __init__(self, python: str, share: bool) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, __file__, "worker", *(["--share"] if share else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def __call__(self, path: Path) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the reference's process ended; see its message above")
        return json.loads(line)

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# --- clips -----------------------------------------------------------------------------------------------


def _recorded(rng: np.random.Generator, path: Path) -> tuple[np.ndarray, int]:
    """5 s of a file; a shorter one is repeated, or followed by digital silence."""
    from dafxhost.data.audio_io import probe, read_audio

    info = probe(path)
    n = int(SECONDS * info.sample_rate)
    if info.frames >= n:
        return read_audio(path, start=int(rng.integers(info.frames - n + 1)), frames=n)
    audio, rate = read_audio(path)
    if rng.random() < 0.5:
        return np.pad(audio, ((0, 0), (0, n - audio.shape[1]))), rate
    return np.tile(audio, (1, n // audio.shape[1] + 1))[:, :n], rate


def _noise(rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Noise with a power spectrum of f^0 to f^-2, steady, pulsed or fading."""
    n = int(SECONDS * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20.0) ** (-rng.uniform(0.0, 1.0))
    sound = np.fft.irfft(spectrum, n)
    shape = int(rng.integers(4))
    t = np.arange(n) / RATE
    if shape == 1:
        sound *= (t % rng.uniform(0.2, 1.0)) < 0.15
    elif shape == 2:
        sound *= np.exp(-(t % 1.0) * rng.uniform(1.0, 12.0))
    elif shape == 3:
        sound *= np.linspace(1.0, 0.01, n)
    return (sound / np.abs(sound).max())[None].astype(np.float32), RATE


def _draw(kind: str, rng: np.random.Generator, data: Path | None, corpus: Any) -> tuple[np.ndarray, int, str]:
    if kind == "noise":
        return *_noise(rng), "noise"
    if kind == "synthetic" or data is None:
        clip, name = corpus.draw(rng, int(SECONDS * RATE), RATE)
        return clip, RATE, name
    files = sorted(p for p in data.rglob("*") if p.suffix in (".flac", ".ogg", ".wav"))
    files = [p for p in files if p.name.startswith("speech") == (kind == "speech")]
    path = files[rng.integers(len(files))]
    return *_recorded(rng, path), path.name


def _with_effects(clips: list[dict[str, Any]]) -> None:
    """Render in place those clips that name an effect, at random settings."""
    import dafxhost

    for name in EFFECTS:
        mine = [clip for clip in clips if clip["effect"] == name]
        with dafxhost.Executor(dafxhost.effect(f"mda-{name}"), workers=2) as executor:
            for clip in mine:
                audio = np.repeat(clip["audio"], 2, axis=0) if len(clip["audio"]) == 1 else clip["audio"]
                wet = executor.render(audio[None], clip["setting"][None], clip["rate"])
                clip["audio"] = np.array(wet[0] if clip["stereo"] else wet[0].mean(axis=0, keepdims=True))


def make_clips(folder: Path, count: int, data: Path | None, seed: int) -> None:
    """Write `count` clips of 5 s as .npz: audio `[C, T]` float32, rate, kind, source, effect."""
    import dafxhost
    from dafxhost.data.corpus import SyntheticCorpus

    corpus = SyntheticCorpus(RATE, seed + 5, "all", bank=32)
    kinds = [kind for kind, part in KINDS.items() for _ in range(round(part * count))]
    clips = []
    for number, kind in enumerate(kinds):
        rng = np.random.default_rng([seed, number])
        audio, rate, source = _draw(kind, rng, data, corpus)
        effect = str(rng.choice(EFFECTS)) if rng.random() < 0.7 else ""
        setting = rng.random(len(dafxhost.effect(f"mda-{effect}").parameters)) if effect else None
        stereo = bool(rng.random() < 0.5)
        clips.append(
            {"audio": audio, "rate": rate, "kind": kind, "source": source, "effect": effect,
             "setting": setting, "stereo": stereo}
        )  # fmt: skip
    _with_effects(clips)
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(clips):
        about = {k: clip[k] for k in ("rate", "kind", "source", "effect")}
        np.savez(folder / f"{number:04d}.npz", audio=clip["audio"].astype(np.float32), **about)
    print(f"{len(clips)} clips in {folder}")


# --- comparing -------------------------------------------------------------------------------------------


def _ours(audio: np.ndarray, rate: int) -> tuple[dict[str, float], dict[str, str], float]:
    from dafxhost.timbre import timbral_features

    began = time.process_time()
    done = timbral_features(audio[None], rate)
    seconds = time.process_time() - began
    values = dict(zip(NAMES, done.values[0].tolist(), strict=True))
    return {k: v for k, v in values.items() if np.isfinite(v)}, done.reasons[0], seconds


def _clips(folder: Path, every: int) -> Iterator[Path]:
    yield from sorted(folder.glob("*.npz"))[::every]


def run(folder: Path, python: str, output: Path, every: int, share: bool) -> None:
    """Both take turns; with `share` what is in `output` already is not measured again."""
    rows = json.loads(output.read_text(encoding="utf-8")) if share and output.exists() else []
    known = {r["clip"] for r in rows}
    with Reference(python, share) as reference:
        first = next(_clips(folder, 1))
        reference(first)  # the just-in-time compiler's turn, and ours to fill tables
        with np.load(first) as clip:
            _ours(clip["audio"], int(clip["rate"]))
        for path in _clips(folder, every):
            if path.name in known:
                continue
            theirs = reference(path)
            rows.append({"reference": theirs, **_row(path)})
            output.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    report(rows)


def _row(path: Path) -> dict[str, Any]:
    with np.load(path) as clip:
        values, reasons, seconds = _ours(clip["audio"], int(clip["rate"]))
        about = {k: str(clip[k]) for k in ("kind", "source", "effect")}
    ours = {"values": values, "failures": reasons, "seconds": seconds}
    return {"clip": path.name, **about, "ours": ours}


def renew(folder: Path, result: Path) -> None:
    """Take our part of a result again: the reference's values stay what they are."""
    rows = [{**row, **_row(folder / row["clip"])} for row in json.loads(result.read_text(encoding="utf-8"))]
    result.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    report(rows)


def freeze(python: str) -> None:
    """Write the reference's values of the tests' clips to tests/timbral_reference.json."""
    tests = Path(__file__).resolve().parent.parent / "tests"
    sys.path.insert(0, str(tests))
    from timbral_clips import reference_clips

    frozen = {}
    with tempfile.TemporaryDirectory() as folder, Reference(python, share=True) as reference:
        for name, (audio, rate) in reference_clips().items():
            path = Path(folder) / f"{name}.npz"
            np.savez(path, audio=audio, rate=rate)
            frozen[name] = reference(path)["values"]
    about = "python benchmarks/timbral_reference.py freeze --python ...; timbral_models 0.4.0"
    text = json.dumps({"made by": about, "values": frozen}, indent=1)
    (tests / "timbral_reference.json").write_text(text + "\n", encoding="utf-8")


def report(rows: list[dict[str, Any]]) -> None:
    """Print the tables, in Markdown."""
    theirs = np.array([r["reference"]["seconds"] for r in rows])
    ours = np.array([r["ours"]["seconds"] for r in rows])
    print(f"{len(rows)} clips of {SECONDS:g} s: " + ", ".join(
        f"{sum(r['kind'] == k for r in rows)} {k}" for k in KINDS))  # fmt: skip
    print("\n| seconds a clip | total | mean | median | largest |\n|---|---|---|---|---|")
    for name, x in (("timbral_models", theirs), ("dafxhost.timbre", ours)):
        print(f"| {name} | {x.sum():.1f} | {x.mean():.3f} | {np.median(x):.3f} | {x.max():.3f} |")
    print(f"\nratio of totals {theirs.sum() / ours.sum():.1f}, "
          f"of a clip: median {np.median(theirs / ours):.1f}, least {(theirs / ours).min():.1f}")  # fmt: skip
    print("\n| feature | kind | clips | largest difference | 99 % | median | deviation of the feature |")
    print("|---|---|---|---|---|---|---|")
    for name in NAMES:
        for kind in KINDS:
            pairs = np.array([
                (r["reference"]["values"][name], r["ours"]["values"][name])
                for r in rows
                if r["kind"] == kind and name in r["reference"]["values"] and name in r["ours"]["values"]
            ]).reshape(-1, 2)  # fmt: skip
            d = np.abs(np.diff(pairs, axis=1)) if len(pairs) else np.full((1, 1), np.nan)
            print(f"| {name} | {kind} | {len(pairs)} | {d.max():.2g} | {np.quantile(d, 0.99):.2g} "
                  f"| {np.median(d):.2g} | {pairs[:, 0].std():.3g} |")  # fmt: skip
    print("\n| feature | reference failed | ours undefined | only ours undefined |\n|---|---|---|---|")
    for name in NAMES:
        failed = [name in r["reference"]["failures"] for r in rows]
        undefined = [name not in r["ours"]["values"] for r in rows]
        only = sum(u and not f for f, u in zip(failed, undefined, strict=True))
        print(f"| {name} | {sum(failed)} | {sum(undefined)} | {only} |")
    clips = sum(bool(r["reference"]["failures"]) for r in rows)
    print(f"\nclips in which the reference failed: {clips} of {len(rows)} ({clips / len(rows):.1%}); "
          f"in which ours has an undefined value: "
          f"{sum(len(r['ours']['values']) < len(NAMES) for r in rows)}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    worker = commands.add_parser("worker")
    worker.add_argument("--share", action="store_true")
    clips = commands.add_parser("clips")
    clips.add_argument("folder", type=Path)
    clips.add_argument("--data", type=Path, help="recordings; without them music and speech are synthetic")
    clips.add_argument("--count", type=int, default=520)
    clips.add_argument("--seed", type=int, default=1)
    go = commands.add_parser("run")
    go.add_argument("folder", type=Path)
    go.add_argument("--python", required=True, help="interpreter that has timbral_models")
    go.add_argument("--every", type=int, default=1, help="take only one clip of so many")
    go.add_argument("--share", action="store_true",
                    help="values only: the reference shares results; goes on where it ended")  # fmt: skip
    go.add_argument("-o", "--output", type=Path, required=True)
    keep = commands.add_parser("freeze")
    keep.add_argument("--python", required=True, help="interpreter that has timbral_models")
    anew = commands.add_parser("renew")
    anew.add_argument("folder", type=Path)
    anew.add_argument("result", type=Path)
    again = commands.add_parser("report")
    again.add_argument("result", type=Path)
    options = parser.parse_args()
    if options.command == "worker":
        _worker(options.share)
    elif options.command == "clips":
        make_clips(options.folder, options.count, options.data, options.seed)
    elif options.command == "run":
        run(options.folder, options.python, options.output, options.every, options.share)
    elif options.command == "renew":
        renew(options.folder, options.result)
    elif options.command == "freeze":
        freeze(options.python)
    else:
        report(json.loads(options.result.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
