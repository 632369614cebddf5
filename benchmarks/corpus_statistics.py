"""Does the built-in corpus sound like recordings? A dozen statistics of its clips, beside those of a folder.

    python benchmarks/corpus_statistics.py --data ../shared/audio/train
    python benchmarks/corpus_statistics.py --data ../shared/audio/train --baseline COMMIT   (an older one)

Clips of 10.9 s at 24 kHz, as training draws them, every piece and recording equally likely. Of each one
the quartiles; the overlap of its distribution with that of the recordings (0 apart, 1 the same); and how many
of the recordings' clips lie between the corpus's 2nd and 98th percentile. The last rows look at all of them
together: how far a clip of a recording is from the nearest of the corpus (in the recordings' deviations, root
mean square over statistics), and from the nearest of another recording.
Results go to stdout, as Markdown or with --json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from dafxhost.data.sources import AudioSource, open_source

RATE, CLIP = 24000, 262144
HOP, WINDOW = 512, 2048
NAMES = {
    "centroid": "spectral centroid, octaves above 1 kHz",
    "slope": "long-term slope, dB/octave, 100 Hz to 8 kHz",
    "lows": "level below 200 Hz, dB of the whole",
    "highs": "level above 4 kHz, dB of the whole",
    "flatness": "spectral flatness of frames, dB",
    "movement": "centroid's movement, octaves",
    "crest": "crest factor, dB",
    "range": "level range of 43 ms frames, 10 to 95 %, dB",
    "floor": "quietest 2 % of frames below the loudest, dB",
    "onsets": "onsets a second",
    "modulation": "centre of the envelope's modulation, octaves above 1 Hz",
    "fast": "share of modulation above 8 Hz",
    "pitched": "periodicity of frames, 60 to 800 Hz",
    "width": "side below mid, dB (stereo clips)",
}


def statistics(clip: np.ndarray) -> dict[str, float]:
    """Of `[C, T]` at 24 kHz; width is NaN if it is mono."""
    x = clip.mean(axis=0)
    x = x / (np.abs(x).max() + 1e-12)
    frames = np.lib.stride_tricks.sliding_window_view(x, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 + 1e-12
    level = 10 * np.log10(power.sum(axis=1))
    loud = level > level.max() - 50
    hz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    total = power[loud].sum(axis=0)
    octaves = np.log2(np.maximum(hz, 20.0) / 1000)
    centroid = np.log2((power[loud] @ hz) / power[loud].sum(axis=1) / 1000)
    bands = np.array([total[(hz >= f) & (hz < 2 * f)].mean() for f in 100 * 2.0 ** np.arange(0, 6.4, 0.5)])
    slope = np.polyfit(np.arange(0, 6.4, 0.5), 10 * np.log10(bands), 1)[0]
    log_power = np.log(power[loud][:, 4:])
    flatness = log_power.mean(axis=1) - np.log(power[loud][:, 4:].mean(axis=1))
    flux = np.maximum(np.diff(np.log(power[:, 4:] + 1e-5 * power.max()), axis=0), 0).mean(axis=1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(flux, 6, mode="edge"), 13)
    peaks = (flux == around.max(axis=1)) & (flux > np.median(around, axis=1) + 0.12)
    envelope = np.sqrt(power.sum(axis=1))
    changes = np.abs(np.fft.rfft((envelope / envelope.mean() - 1) * np.hanning(envelope.size))) ** 2
    rates = np.fft.rfftfreq(envelope.size, HOP / RATE)
    heard = (rates > 0.4) & (rates < 20)
    changes, rates = changes[heard], rates[heard]
    correlation = np.fft.irfft(power[loud], axis=1)
    lags = slice(RATE // 800, RATE // 60)
    # The window's own correlation is taken out (Boersma 1993).
    own = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(WINDOW))) ** 2)
    pitched = (correlation / correlation[:, :1] / (own / own[0]))[:, lags].max(axis=1)
    side = clip[0] - clip[1] if len(clip) == 2 else None
    return {
        "centroid": float(np.sum(octaves * total) / total.sum()),
        "slope": float(slope),
        "lows": float(10 * np.log10(total[hz < 200].sum() / total.sum())),
        "highs": float(10 * np.log10(total[hz > 4000].sum() / total.sum())),
        "flatness": float(10 / np.log(10) * np.median(flatness)),
        "movement": float(centroid.std()),
        "crest": float(-10 * np.log10(np.mean(x**2))),
        "range": float(np.percentile(level, 95) - np.percentile(level, 10)),
        "floor": float(level.max() - np.percentile(level, 2)),
        "onsets": float(peaks.sum() / (CLIP / RATE)),
        "modulation": float(np.sum(np.log2(rates) * changes) / changes.sum()),
        "fast": float(changes[rates > 8].sum() / changes.sum()),
        "pitched": float(np.median(np.minimum(pitched, 1.0))),
        "width": float("nan") if side is None else _ratio(side, clip[0] + clip[1]),
    }


def _ratio(side: np.ndarray, mid: np.ndarray) -> float:
    return float(np.clip(10 * np.log10((np.mean(side**2) + 1e-12) / (np.mean(mid**2) + 1e-12)), -60, 10))


def table_of(source: AudioSource, clips: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """`[clips, statistics]` and the name of each clip's piece."""
    rows, names = [], []
    for number in range(clips):
        clip, name = source.draw(np.random.default_rng([seed, number]), CLIP, RATE)
        found = statistics(clip)
        rows.append([found[key] for key in NAMES])
        names.append(name)
    return np.array(rows), names


def corpus_table(clips: int, seed: int, bank: int) -> np.ndarray:
    from dafxhost.data.corpus import SyntheticCorpus

    try:  # older corpora are mono
        source = SyntheticCorpus(RATE, seed, bank=bank, channels="stereo")
    except TypeError:
        source = SyntheticCorpus(RATE, seed, bank=bank)
    return table_of(source, clips, seed)[0]


def older_table(commit: str, clips: int, seed: int, bank: int) -> np.ndarray:
    """The same of the corpus as it was, by this script run on the files of that commit."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(__file__).resolve().parent.parent
        packed = subprocess.run(
            ["git", "archive", commit, "dafxhost"], cwd=here, check=True, capture_output=True
        )
        subprocess.run(["tar", "x", "-C", folder], input=packed.stdout, check=True)
        command = [sys.executable, __file__, "--raw", "--clips", clips, "--seed", seed, "--bank", bank]
        # Python looks beside the script first, not in the working directory: the path decides.
        answer = subprocess.run(
            list(map(str, command)), env={**os.environ, "PYTHONPATH": folder}, check=True, capture_output=True
        )
    return np.array(json.loads(answer.stdout), dtype=float)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Common area of two histograms of 12 bins over the range of both, without the outermost percent."""
    low, high = np.percentile(np.concatenate([a, b]), [1, 99])
    edges = np.linspace(low, high, 13)
    edges[0], edges[-1] = -np.inf, np.inf
    counts = [np.histogram(x, edges)[0] / len(x) for x in (a, b)]
    return float(np.minimum(*counts).sum())


def nearest(real: np.ndarray, others: np.ndarray, refused: np.ndarray | None = None) -> np.ndarray:
    """Distance of each real clip to the nearest of the others, in real deviations; stereo width left out."""
    columns = [i for i, key in enumerate(NAMES) if key != "width"]
    scale = real[:, columns].std(axis=0)
    gaps = (real[:, None, columns] - others[None, :, columns]) / scale
    distance = np.sqrt(np.mean(gaps**2, axis=2))
    if refused is not None:
        distance[refused] = np.inf
    return distance.min(axis=1)


def compare(real: np.ndarray, names: list[str], corpora: dict[str, np.ndarray]) -> dict[str, dict]:
    of = np.array(names)
    result: dict[str, dict] = {"recordings": {"rows": {}}}
    for label, table in {"recordings": real, **corpora}.items():
        rows = {}
        for i, key in enumerate(NAMES):
            values, truth = (t[np.isfinite(t[:, i]), i] for t in (table, real))
            if not len(values) or not len(truth):
                continue
            low, high = np.percentile(values, [2, 98])
            rows[key] = {
                "quartiles": np.percentile(values, [25, 50, 75]).tolist(),
                "overlap": overlap(values, truth),
                "covered": float(np.mean((truth >= low) & (truth <= high))),
            }
        same = of[:, None] == of[None] if label == "recordings" else None
        distance = nearest(real, table, same)
        result[label] = {
            "rows": rows,
            "nearest_median": float(np.median(distance)),
            "nearest_90": float(np.percentile(distance, 90)),
            "mean_overlap": float(np.mean([r["overlap"] for r in rows.values()])),
            "mean_covered": float(np.mean([r["covered"] for r in rows.values()])),
        }
    return result


def markdown(result: dict[str, dict]) -> str:
    labels = list(result)
    lines = ["| statistic | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for key, said in NAMES.items():
        cells = []
        for label in labels:
            row = result[label]["rows"].get(key)
            if row is None:
                cells.append("")
                continue
            q = row["quartiles"]
            text = f"{q[1]:.2f} ({q[0]:.2f} to {q[2]:.2f})"
            extra = f"; {row['overlap']:.2f}, {row['covered']:.0%}"
            cells.append(text + ("" if label == "recordings" else extra))
        lines.append(f"| {said} | " + " | ".join(cells) + " |")
    for key, said in (("mean_overlap", "mean overlap"), ("mean_covered", "mean covered")):
        cells = ["" if label == "recordings" else f"{result[label][key]:.2f}" for label in labels]
        lines.append(f"| {said} | " + " | ".join(cells) + " |")
    cells = [f"{result[x]['nearest_median']:.2f}, {result[x]['nearest_90']:.2f}" for x in labels]
    lines.append("| distance to the nearest, median and 90 % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help="folder of recordings to compare with")
    parser.add_argument("--baseline", metavar="COMMIT", help="also the corpus of this commit")
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--bank", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--raw", action="store_true", help="only the corpus's values, as JSON")
    options = parser.parse_args()
    shape = (options.clips, options.seed, options.bank)
    if options.raw:
        print(json.dumps(corpus_table(*shape).tolist()))
        return
    if not options.data:
        parser.error("--data FOLDER is needed: with what to compare")
    corpora = {}
    if options.baseline:
        corpora["corpus before"] = older_table(options.baseline, *shape)
    corpora["corpus"] = corpus_table(*shape)
    real, names = table_of(open_source(options.data, RATE, channels="stereo"), options.clips, options.seed)
    result = compare(real, names, corpora)
    print(json.dumps(result, indent=1) if options.json else markdown(result))


if __name__ == "__main__":
    main()
