"""The metrics by name: what each is, in which unit, which direction is better, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dafxhost.errors import UnknownNameError, UsageError
from dafxhost.metrics import levels, perceptual, spectral, waveform
from dafxhost.metrics.clips import Clips

PRIMARY = "mr-stft"
"""What an evaluation always measures: headlines and ratios are of it."""


@dataclass(frozen=True)
class Metric:
    """One way of comparing recordings of the same performance.

    Attributes:
        name: as given to `--metrics`. title: in words. unit: "" if it has none.
        lower: whether less is better.
        source: where its definition comes from.
        measure: (clips K, target 1) -> values `[K]`.
        perfect: value for equal recordings; None where that depends on the recording.
        level: whether it measures nothing but the RMS level, so that it says nothing once levels are matched.
        slow: whether it is measured only when asked for.
        package: what must be installed for it beyond dafxhost. installed: whether that is.
    """

    name: str
    title: str
    unit: str
    lower: bool
    source: str
    measure: Callable[[Clips, Clips], np.ndarray]
    perfect: float | None = 0.0
    level: bool = False
    slow: bool = False
    package: str = ""
    installed: Callable[[], bool] = lambda: True

    @property
    def better(self) -> str:
        return "lower" if self.lower else "higher"

    @property
    def heading(self) -> str:
        """Its title with its unit, for the head of a column."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary."""
        return {
            "name": self.name, "title": self.title, "unit": self.unit, "better": self.better,
            "source": self.source,
        }  # fmt: skip


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "mr-stft", "MR-STFT", "", True,
            "Grant 2023, DeepAFx-ST (Steinmetz 2022): FFT 32 to 32768, hop n/2, linear and log magnitude",
            spectral.mr_stft,
        ),
        Metric(
            "mel", "mel-spectral distance", "", True,
            "DeepAFx-ST's MSD: 128 mel bands, window and hop 65536, linear and log magnitude",
            spectral.mel_distance,
        ),
        Metric(
            "centroid", "spectral centroid error", "Hz", True,
            "DeepAFx-ST's SCE, mean centroid of 2048-sample frames, in true Hz", spectral.centroid_error,
        ),
        Metric(
            "crest", "crest factor error", "dB", True,
            "DeepAFx-ST's CFE with 20 log10 (there: natural logarithm, 2.303 times as large)",
            levels.crest_error,
        ),
        Metric(
            "rms", "RMS error", "dB", True,
            "DeepAFx-ST's RMS with 20 log10 (there: natural logarithm, 2.303 times as large)",
            levels.rms_error, level=True,
        ),
        Metric(
            "lufs", "loudness error", "LU", True,
            "integrated loudness of ITU-R BS.1770-4, mono as one channel", levels.loudness_error,
        ),
        Metric(
            "mfcc", "MFCC cosine", "", False, "cosine of 30 MFCCs frame by frame, Grant 2023 (redraw rule)",
            spectral.mfcc_cosine, perfect=1.0,
        ),
        Metric(
            "si-sdr", "SI-SDR", "dB", False, "Le Roux et al. 2019, equation 2; clipped to -100..100 dB",
            waveform.si_sdr, perfect=waveform.CAP,
        ),
        Metric(
            "pesq", "PESQ", "MOS", False, "ITU-T P.862.2 (wide band, 16 kHz) by package pesq",
            perceptual.pesq_wideband, perfect=None, slow=True, package="pesq",
            installed=perceptual.pesq_installed,
        ),
    )
}  # fmt: skip
"""All of them, in the order in which they are shown."""

DEFAULT = tuple(name for name, metric in METRICS.items() if not metric.slow)
"""What is measured if nobody says otherwise."""


@dataclass(frozen=True)
class Choice:
    """Metrics to measure, and why others are not: name -> reason."""

    metrics: tuple[Metric, ...]
    skipped: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(metric.name for metric in self.metrics)

    def without_levels(self) -> Choice:
        """Those that still say something where levels are matched first."""
        why = {m.name: "0 by construction: levels are matched first" for m in self.metrics if m.level}
        return Choice(tuple(m for m in self.metrics if not m.level), {**self.skipped, **why})


def choose(names: Sequence[str] | None = None) -> Choice:
    """The metrics of those names, in the table's order, "mr-stft" always among them.

    Args:
        names: of `METRICS`; also "default" (all but slow ones) and "all" (all that are installed). None or
            nothing: default.

    Raises:
        UnknownNameError: no metric of that name. UsageError: one that was named needs a package.
    """
    asked = list(names or ("default",))
    for name in asked:
        if name not in (*METRICS, "default", "all"):
            raise UnknownNameError("metric", name, METRICS, "Also: default, all.")
        if name in METRICS and not METRICS[name].installed():
            package = METRICS[name].package
            raise UsageError(f"metric {name!r} needs package {package}: pip install {package}")
    wanted = {PRIMARY, *asked} | (set(DEFAULT) if "default" in asked else set())
    wanted |= set(METRICS) if "all" in asked else set()
    taken, skipped = [], {}
    for name, metric in METRICS.items():
        if not metric.installed():
            skipped[name] = f"package {metric.package} is not installed (pip install {metric.package})"
        elif name in wanted:
            taken.append(metric)
        else:
            skipped[name] = f"not asked for (--metrics default,{name})" if metric.slow else "not asked for"
    return Choice(tuple(taken), skipped)
