"""What an observer that has the processed and the dry clip side by side can tell of which effect was applied.

    python benchmarks/effect_ceiling.py --train ../shared/audio/train --test ../shared/audio/test --json FILE

The same clips as `effect_probe.py`, but nothing is squeezed into an embedding of one clip: the two clips are
compared sample by sample and frame by frame (impulse response, coherence, gain over time and level in 24
bands, cepstra of the ratio, static curve), and trees and a logistic regression vote. No probe on embeddings
of single clips sees as much, so this is about the most that can be hoped for from so many clips to learn
from; it is an estimate from below, since a better observer may exist.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from effect_probe import Clips

from dafxhost_encoders.contrastive_data import PAPER_EFFECTS

FRAME, HOP, LONG = 1024, 256, 65_536
Spectrum = np.ndarray


def log_bands(low: int, high: int, count: int) -> list[tuple[int, int]]:
    edges = np.unique(np.round(np.geomspace(low, high, count + 1)).astype(int))
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


BANDS = log_bands(2, 512, 24)


def stft(clip: np.ndarray) -> Spectrum:
    frames = np.lib.stride_tricks.sliding_window_view(clip, FRAME)[::HOP]
    return np.asarray(scipy.fft.rfft(frames * np.hanning(FRAME + 1)[:-1], axis=1))


def linear(wet: np.ndarray, dry: np.ndarray) -> list[float]:
    """Impulse response by division of averaged spectra, coherence, and the cepstrum of their ratio."""
    window = np.hanning(LONG + 1)[:-1]
    starts = range(0, len(dry) - LONG + 1, LONG // 2)
    d, w = (
        np.array([scipy.fft.rfft(x[s : s + LONG] * window) for s in starts]) for x in (dry, wet - wet.mean())
    )
    dd, ww, wd = (np.abs(d) ** 2).sum(0), (np.abs(w) ** 2).sum(0), (w * d.conj()).sum(0)
    floor = 1e-4 * dd.mean()
    response = np.abs(np.asarray(scipy.fft.irfft(wd / (dd + floor))))[: LONG // 2]
    out = [float(np.log(response[:2].max() + 1e-6)), float(response.argmax()) / 2000]
    for a, b in log_bands(2, 16_000, 60):
        part = response[a:b]
        out += [np.log(part.max() + 1e-6), 0.5 * np.log(np.square(part).mean() + 1e-12)]
    coherence = np.abs(wd) ** 2 / (dd * ww + 1e-20)
    ratio = np.log((ww + floor) / (dd + floor))
    for a, b in log_bands(20, LONG // 2, 24):
        out += [ratio[a:b].mean(), ratio[a:b].std(), np.average(coherence[a:b], weights=ww[a:b] + 1e-12)]
    cepstrum = np.asarray(scipy.fft.irfft(ratio))
    for a, b in log_bands(4, LONG // 4, 40):
        part = cepstrum[a:b]
        out += [np.log(np.abs(part).max() + 1e-5), part.max() + part.min()]
    return out


def moving(wet: np.ndarray, dry: np.ndarray) -> list[float]:
    """Gain of each band over time: mean, spread, slope over level, speed; its modulation spectrum; and how
    the cepstrum of the ratio of frames stays and moves."""
    d, w = stft(dry), stft(wet - wet.mean())
    dry_power, wet_power = np.abs(d) ** 2, np.abs(w) ** 2
    out: list[float] = []
    gains = []
    for a, b in BANDS:
        before, after = dry_power[:, a:b].mean(1), wet_power[:, a:b].mean(1)
        floor = 1e-5 * before.max() + 1e-9
        gain, level = np.log((after + floor) / (before + floor)), np.log(before + floor)
        loud = level > np.quantile(level, 0.3)
        if not loud.any():
            loud[:] = True
        centred = level[loud] - level[loud].mean()
        mean = gain[loud].mean()
        slope = (gain[loud] * centred).mean() / (centred.var() + 0.05)
        rest = gain[loud] - mean - slope * centred
        cross = np.abs((w * d.conj())[:, a:b].mean(1)) / np.sqrt(before * after + 1e-12)
        quiet = gain[~loud].mean() if (~loud).any() else mean
        out += [mean, np.log(gain[loud].std() + 0.01), slope, np.log(rest.std() + 0.01), cross[loud].mean()]
        out += [np.log(np.abs(np.diff(gain)).mean() + 0.01), quiet - mean]
        gains.append(np.where(loud, gain - mean, 0))
    gain = np.array(gains)
    spectra = np.asarray(scipy.fft.rfft(gain * np.hanning(gain.shape[1]), 1024, axis=1))
    rates = np.abs(spectra) ** 2 / gain.shape[1] + 1e-4
    for group in np.array_split(rates, 3):
        for a, b in log_bands(2, 500, 16):
            part = group.mean(0)[a:b]
            out += [np.log(part.mean()), np.log(part.max() / part.mean())]
    unit = gain / (np.linalg.norm(gain, axis=1, keepdims=True) + 1e-2)
    out += [np.diag(unit @ unit.T, k).mean() for k in (1, 2, 4, 8, 16)]
    floors = [1e-7 * power.max() + 1e-9 for power in (wet_power, dry_power)]
    cepstra = np.asarray(scipy.fft.irfft(np.log((wet_power + floors[0]) / (dry_power + floors[1])), axis=1))
    for a, b in log_bands(2, FRAME // 2, 16):
        part = cepstra[:, a:b]
        out += [np.abs(part).max(1).mean(), np.abs(part.mean(0)).max(), part.std(0).max()]
    return out


def static(wet: np.ndarray, dry: np.ndarray) -> list[float]:
    """Level after against level before, in frames, and sample against sample."""
    frames = len(dry) // 512 * 512
    before, after = (np.log(np.square(x[:frames].reshape(-1, 512)).mean(1) + 1e-7) for x in (dry, wet))
    out: list[float] = []
    for part in np.array_split(np.argsort(before), 10):
        out += [(after - before)[part].mean(), (after - before)[part].std()]
    order = np.argsort(dry[::8])
    for part in np.array_split(wet[::8][order], 12):
        out += [part.mean(), np.log(part.std() + 1e-4)]
    return out


def observed(clips: Clips) -> np.ndarray:
    """`[N, F]`."""
    out = []
    for wet, dry in zip(clips.wet, clips.dry, strict=True):
        pair = (wet / np.abs(wet).max(), dry / np.abs(dry).max())
        out.append(linear(*pair) + moving(*pair) + static(*pair))
    return np.nan_to_num(np.array(out))


def vote(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probabilities `[N, effects]`: the mean of extremely randomised trees and a logistic regression."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    grown: dict[str, Any] = {"min_samples_leaf": 2, "max_features": 0.2, "random_state": 0}
    trees = ExtraTreesClassifier(300, **grown)
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -6, "a_max": 6})
    regression = make_pipeline(StandardScaler(), clip, LogisticRegression(C=0.01, max_iter=300))
    said = [np.asarray(m.fit(train, labels).predict_proba(test)) for m in (trees, regression)]
    return np.mean(said, axis=0)


def report(fit: list[Clips], test: Clips) -> dict[str, object]:
    train = np.concatenate([observed(clips) for clips in fit])
    labels = np.concatenate([clips.effect for clips in fit])
    said = vote(train, labels, observed(test)).argmax(axis=1)
    confusion = np.zeros((len(PAPER_EFFECTS),) * 2, int)
    np.add.at(confusion, (test.effect, said), 1)
    return {
        "clips": [len(labels), len(said)],
        "accuracy": float((said == test.effect).mean()),
        "per_effect": {
            name: float((said == k)[test.effect == k].mean()) for k, name in enumerate(PAPER_EFFECTS)
        },
        "confusion": confusion.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="folder of recordings to learn from")
    parser.add_argument("--test", type=Path, required=True, help="folder of recordings to measure on")
    parser.add_argument("--per-effect", type=int, default=60, help="clips an effect from --train")
    parser.add_argument("--test-per-effect", type=int, default=40, help="clips an effect from --test")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    held = max(8, options.per_effect // 4)
    fit = Clips(options.train, "train", options.per_effect, options.seed, options.workers)
    more = Clips(options.train, "validation", held, options.seed + 1, options.workers)
    test = Clips(options.test, "all", options.test_per_effect, options.seed + 2, options.workers)
    result = report([fit, more], test)
    print(f"both clips side by side: {result['accuracy']:.3f} of {len(test.effect)} clips")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
