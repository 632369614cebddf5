"""Measures of how far one recording lies from another of the same performance, by name.

::

    from dafxhost.metrics import METRICS, compare

    compare(prediction, target, 24000)               # {"mr-stft": 0.41, "mel": 0.22, "centroid": 85.3, ...}
    compare(prediction, target, 24000, ["crest"])    # {"crest": 1.7}
    METRICS["crest"].unit, METRICS["crest"].source   # "dB", ...

A file a family: `levels` (crest factor, RMS, loudness), `spectral` (mel-spectral distance, centroid, MFCCs,
MR-STFT), `waveform` (SI-SDR), `perceptual` (PESQ); `clips` holds what several of them need of the same audio,
`table` names them, `measuring` runs those that were chosen.
"""

from dafxhost.metrics.measuring import Measurer, compare
from dafxhost.metrics.table import DEFAULT, METRICS, Choice, Metric, choose

__all__ = ["DEFAULT", "METRICS", "Choice", "Measurer", "Metric", "choose", "compare"]
