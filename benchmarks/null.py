"""How exactly a built-in mda effect does what the real plugin does, and how fast.

    python benchmarks/null.py --effect mda-combo [--settings 200] [--seconds 5] [--seed 0] [--block-size 512]
                              [--music FILE ...] [--json]

Every setting is rendered by the installed LV2 plugin and by the built-in; the null depth is the energy of
their difference relative to the plugin's own output, in dB: lower is better. Both silent counts as perfect.
Signals: music (drums, bass and chords made here, and the files given), speech-like and noise, in mono and
stereo, at 24, 44.1 and 48 kHz in turn. Needs Debian's mda-lv2; exits with 3 without it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import AudioFileError, DafxhostError, EffectUnavailableError

RATES = (24000, 44100, 48000)
PERFECT = -200.0  # dB reported where nothing at all is left
GOAL = -60.0  # dB

HELD: dict[str, tuple[tuple[int, str, float], ...]] = {
    # Values that no uniform draw would hit but that count: every n-th setting has this parameter at this.
    # Combo's high-pass off, and no bias, are its defaults, where silence stays silence.
    "mda-combo": ((3, "hpf_freq", 0.0), (5, "bias", 0.5)),
    # Dynamics without limiter and without gate; without both, where the ratio is plain, it is simpler.
    "mda-dynamics": ((2, "limiter", 1.0), (3, "gate_thr", 0.0)),
}


def music(rate: int, seconds: float, seed: int) -> np.ndarray:
    """`[2, N]`: four-on-the-floor drums, a plucked bass and chords, panned a little; float32, peak 0.8."""
    rng = np.random.default_rng(seed)
    n = int(rate * seconds)
    time_axis = np.arange(n) / rate
    beat = 60.0 / rng.uniform(90, 140)
    out = np.zeros((2, n))
    for b in range(int(seconds / beat) + 1):
        since = time_axis - b * beat
        on = since >= 0
        s = np.where(on, since, 0.0)
        kick = np.sin(2 * np.pi * (45 * s + 12 * (1 - np.exp(-s * 30)))) * np.exp(-s * 12)
        late = np.maximum(since - beat / 2, 0)
        hat = rng.standard_normal(n) * np.exp(-late * 60) * (since >= beat / 2)
        snare = rng.standard_normal(n) * np.exp(-s * 20) * (b % 2)
        root = 55.0 * 2 ** (rng.integers(0, 12) / 12)
        bass = sum(np.sin(2 * np.pi * k * root * s) / k for k in range(1, 8)) * np.exp(-s * 4)
        chord = sum(
            np.sin(2 * np.pi * root * 4 * r * k * s) / k**1.5 for r in (1, 1.26, 1.5) for k in range(1, 5)
        ) * np.exp(-s * 2)
        left, right = rng.uniform(0.4, 1.0, 2)
        hit = (kick + 0.4 * bass) * on + 0.2 * hat + 0.3 * snare * on
        out += np.stack([hit + left * 0.15 * chord * on, hit + right * 0.15 * chord * on])
    return _peak(out, 0.8)


def speech(rate: int, seconds: float, seed: int) -> np.ndarray:
    """`[2, N]`: buzz and hiss through random resonances in syllables, digital silence between words."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(rate * seconds))
    at = int(0.05 * rate)
    while at < len(out):
        n = int(rng.uniform(0.08, 0.3) * rate)
        pitch = rng.uniform(90, 220) * np.linspace(1, rng.uniform(0.8, 1.2), n)
        phase = np.cumsum(pitch) / rate
        source = (phase % 1.0) - 0.5 if rng.random() < 0.7 else rng.standard_normal(n) * 0.3
        bins = np.fft.rfftfreq(n, 1 / rate)
        formants = rng.uniform([300, 900, 2200], [800, 2000, 3200])
        shape = sum(1 / (1 + ((bins - f) / 90) ** 2) for f in formants)
        syllable = np.fft.irfft(np.fft.rfft(source) * shape, n) * np.hanning(n)
        stop = min(at + n, len(out))
        out[at:stop] += syllable[: stop - at]
        at += n + (int(rng.uniform(0.05, 0.3) * rate) if rng.random() < 0.4 else 0)
    return _peak(np.stack([out, np.roll(out, rate // 1000)]), 0.5)


def noise(rate: int, seconds: float, seed: int) -> np.ndarray:
    """`[2, N]`: independent white noise at a random level from -50 to 0 dBFS peak."""
    rng = np.random.default_rng(seed)
    return _peak(rng.standard_normal((2, int(rate * seconds))), 10 ** (rng.uniform(-50, 0) / 20))


def _peak(audio: np.ndarray, peak: float) -> np.ndarray:
    return (audio * (peak / max(np.abs(audio).max(), 1e-9))).astype(np.float32)


SIGNALS: dict[str, Callable[[int, float, int], np.ndarray]] = {
    "music": music,
    "speech": speech,
    "noise": noise,
}


def file_signal(path: Path, rate: int, seconds: float, seed: int) -> np.ndarray:
    """`[2, N]`: a random part of a file, resampled, one channel doubled."""
    import soundfile
    import soxr

    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise AudioFileError(f"{path} cannot be read as audio: {error.error_string}") from error
    with file:
        wanted = min(file.frames, int(seconds * file.samplerate) + 1)
        file.seek(int(np.random.default_rng(seed).integers(0, file.frames - wanted + 1)))
        audio = file.read(wanted, dtype="float32", always_2d=True)
        audio = soxr.resample(audio, file.samplerate, rate).T[:, : int(rate * seconds)]
    return np.ascontiguousarray(
        audio[:2] if len(audio) > 1 else np.repeat(audio, 2, axis=0), dtype=np.float32
    )


@dataclass(frozen=True)
class Null:
    """One comparison: what was rendered, the index of the effect's first choice, the null depth in dB."""

    signal: str
    rate: int
    channels: int
    choice: int
    depth: float
    values: tuple[float, ...]


def first_choice(effect: Effect) -> int | None:
    """Index of the first parameter that is a choice, whose values the settings take in turn."""
    return next((i for i, p in enumerate(effect.parameters) if p.kind == "choice"), None)


def settings(count: int, seed: int, effect: Effect) -> np.ndarray:
    """`[count, P]` on 0..1, uniform; the first choice's values in turn, and what `HELD` says."""
    rng = np.random.default_rng(seed)
    u = rng.random((count, len(effect.parameters)))
    choice = first_choice(effect)
    if choice is not None:
        levels = effect.parameters[choice].levels
        u[:, choice] = (np.arange(count) % levels + 0.5) / levels
    for every, name, value in HELD.get(effect.name, ()):
        u[::every, effect.parameter_names.index(name)] = value
    return u


def signal_numbers(count: int, kinds: int, levels: int) -> np.ndarray:
    """`[count]` on 0..kinds - 1: signals in turn, such that each meets each of the first choice's values."""
    i = np.arange(count)
    both = math.lcm(kinds, levels)
    return (i + (i // both if both < kinds * levels else 0)) % kinds


def null_depth(real: np.ndarray, ours: np.ndarray) -> float:
    """Energy of the difference over the energy of `real`, in dB."""
    reference = float(np.sum(np.square(real, dtype=np.float64)))
    left = float(np.sum(np.square(real.astype(np.float64) - ours)))
    if left == 0.0:
        return PERFECT
    return float("inf") if reference == 0.0 else float(10.0 * np.log10(left / reference))


def compare(
    effect: str,
    count: int = 200,
    seconds: float = 5.0,
    seed: int = 0,
    files: Sequence[Path] = (),
    rates: Sequence[int] = RATES,
    block_size: int = 512,
) -> tuple[list[Null], dict[str, dict[str, float]]]:
    """Render `count` settings by both; returns the nulls, and by signal the seconds in each and of audio.

    Raises:
        EffectUnavailableError: the LV2 plugin is not installed.
        UnknownNameError: no such effect, or none of our own.
    """
    real = dafxhost.effect(effect, provider="lv2")
    ours = dafxhost.effect(effect, provider="builtin")
    drawn = settings(count, seed, real)
    choice = first_choice(real)
    levels = real.parameters[choice].levels if choice is not None else 1
    kinds = [*SIGNALS, *(f"file:{p.name}" for p in files)]
    rng = np.random.default_rng(seed + 1)
    # Settings that share signal, rate and channel count are rendered as one batch.
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for i, kind in enumerate(signal_numbers(count, len(kinds), levels)):
        groups[int(kind), int(rng.choice(rates)), 1 + int(rng.integers(2))].append(i)
    nulls: list[Null] = []
    seconds_in: dict[str, dict[str, float]] = {}
    with (
        dafxhost.Executor(real, workers=1, block_size=block_size) as plugin,
        dafxhost.Executor(ours, workers=1, block_size=block_size, deadline=300.0) as builtin,
    ):
        for (kind, rate, channels), rows in sorted(groups.items()):
            if kind < len(SIGNALS):
                clip = SIGNALS[kinds[kind]](rate, seconds, seed + rows[0])
            else:
                clip = file_signal(files[kind - len(SIGNALS)], rate, seconds, seed + rows[0])
            audio = np.ascontiguousarray(clip[None, :channels])
            before = plugin.stats, builtin.stats
            theirs = plugin.render(audio, drawn[None, rows], rate)[0]
            own = builtin.render(audio, drawn[None, rows], rate)[0]
            spent = seconds_in.setdefault(kinds[kind], {"plugin": 0.0, "builtin": 0.0, "audio": 0.0})
            spent["plugin"] += (plugin.stats - before[0]).plugin_seconds
            spent["builtin"] += (builtin.stats - before[1]).plugin_seconds
            spent["audio"] += (plugin.stats - before[0]).audio_seconds
            for i, y, z in zip(rows, theirs, own, strict=True):
                values = tuple(float(v) for v in real.plugin_values(drawn[i]))
                nulls.append(Null(kinds[kind], rate, channels, i % levels, null_depth(y, z), values))
    return nulls, seconds_in


def costs(seconds_in: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Processing time (ms) per second of audio in each, and their ratio, by signal and for all."""
    total = {k: sum(s[k] for s in seconds_in.values()) for k in ("plugin", "builtin", "audio")}
    return {
        name: {
            "plugin_ms": 1e3 * s["plugin"] / s["audio"],
            "builtin_ms": 1e3 * s["builtin"] / s["audio"],
            "ratio": s["builtin"] / s["plugin"],
        }
        for name, s in {**seconds_in, "all": total}.items()
    }


def summarise(nulls: Sequence[Null], key: str) -> dict[str, dict[str, float]]:
    """Worst and median null depth (dB) and count for each value of one of `Null`'s fields."""
    by: dict[str, list[float]] = defaultdict(list)
    for null in nulls:
        by[str(getattr(null, key))].append(null.depth)
    return {
        k: {"worst_db": max(v), "median_db": float(np.median(v)), "count": len(v)}
        for k, v in sorted(by.items())
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Null test of a built-in mda effect against the plugin.")
    parser.add_argument("--effect", required=True, metavar="NAME", help="e.g. mda-combo")
    parser.add_argument("--settings", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--block-size", type=int, default=512)
    parser.add_argument("--music", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        nulls, seconds = compare(
            arguments.effect,
            arguments.settings,
            arguments.seconds,
            arguments.seed,
            arguments.music,
            block_size=arguments.block_size,
        )
    except EffectUnavailableError as error:
        print(error, file=sys.stderr)
        return 3
    except DafxhostError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    worst = max(nulls, key=lambda null: null.depth)
    report = {
        "worst": asdict(worst),
        "settings": len(nulls),
        "above_goal": sum(null.depth > GOAL for null in nulls),
        "choice": summarise(nulls, "choice"),
        "signal": summarise(nulls, "signal"),
        "rate": summarise(nulls, "rate"),
        "channels": summarise(nulls, "channels"),
        "cost": costs(seconds),
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
        return 0
    for key in ("choice", "signal", "rate", "channels"):
        print(f"{key:>28}  worst dB  median dB  settings")
        for name, row in report[key].items():
            print(f"{name:>28}  {row['worst_db']:8.1f}  {row['median_db']:9.1f}  {row['count']:8d}")
    print(f"{report['above_goal']} of {len(nulls)} above {GOAL:.0f} dB")
    print(
        f"worst: {worst.depth:.1f} dB, {worst.signal}, {worst.rate} Hz, {worst.channels} ch, "
        f"plugin values {', '.join(f'{v:.4g}' for v in worst.values)}"
    )
    print(f"{'ms per second of audio':>28}    plugin   built-in     ratio")
    for name, row in report["cost"].items():
        print(f"{name:>28}  {row['plugin_ms']:8.2f}  {row['builtin_ms']:9.2f}  {row['ratio']:8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
