"""Spectrograms and long-term spectra of several recordings on the same axes, in a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from dafxhost.report import plot, spectra
from dafxhost.report.page import Page, data_uri
from dafxhost.report.sound import Version, time_attributes


def add_spectrograms(page: Page, versions: Sequence[Version], *, key: str, caption: str = "") -> None:
    """One over the other: the same seconds, frequencies and levels. A click in one plays it from there."""
    rates = [v.sample_rate for v in versions]
    top = spectra.top_frequency(rates)
    longest = max(v.seconds for v in versions)
    levels = [spectra.spectrogram(v.audio, v.sample_rate, top) for v in versions]
    loudest = max(float(x.max()) for x in levels)
    x = plot.linear_axis(0, longest, "s", most=12)
    y = plot.frequency_axis(spectra.LOWEST, top)
    y = plot.Axis(y.low, y.high, tuple((v, t) for v, t in y.ticks if v in (100, 1000, 10000)), "", log=True)
    page.style(plot.style())
    parts = []
    for i, (v, level) in enumerate(zip(versions, levels, strict=True)):
        width = 100 * v.seconds / longest
        image = data_uri(spectra.picture(level, loudest), "image/png")
        inner = f'<img src="{image}" alt="" style="width:{width:.3f}%">'
        panel = plot.framed(
            inner, x, y, rem=8, alt=f"Spectrogram of the {v.name.lower()}",
            attributes=time_attributes(v, i, longest, key), bottom=i == len(versions) - 1,
        )  # fmt: skip
        parts.append(
            f'<div class="panel" style="--tone: var(--series-{v.series})">'
            f"<b>{escape(v.name)}</b>{panel}</div>"
        )
    said = caption or (
        "Frequency in Hz, upwards; brightness over the 80 dB below the loudest point of all, at the same "
        "loudness. A click jumps to that moment."
    )
    page.raw(f'<figure class="panels">{"".join(parts)}<figcaption>{escape(said)}</figcaption></figure>')


def add_spectra(page: Page, versions: Sequence[Version], *, caption: str = "") -> None:
    """Long-term spectra as curves on one plot."""
    top = spectra.top_frequency([v.sample_rate for v in versions])
    found = [spectra.long_term(v.audio, v.sample_rate, top) for v in versions]
    peak = max(float(level.max()) for _, level in found)
    high = 5 * np.ceil((peak + 1) / 5)
    curves = [
        plot.Curve(
            v.name,
            [(f, max(level, high - 120)) for f, level in zip(*map(np.ndarray.tolist, pair), strict=True)],
            v.series,
        )
        for v, pair in zip(versions, found, strict=True)
    ]
    x = plot.frequency_axis(spectra.LOWEST, top)
    y = plot.linear_axis(float(high - 70), float(high), "dB in each sixth of an octave (pink noise is flat)")
    page.style(plot.style())
    names = ", ".join(v.name.lower() for v in versions)
    page.raw(plot.lines(x, y, curves, alt=f"Long-term spectra of {names}", caption=caption))
