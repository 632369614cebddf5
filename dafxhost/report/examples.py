"""Examples of a run to listen to: input, reference, target and what the controller makes of the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dafxhost.data.examples import ExampleBatch, Examples
from dafxhost.data.features import normalise_peak
from dafxhost.data.sources import AudioSource
from dafxhost.effects import Effect
from dafxhost.errors import RenderError
from dafxhost.execution.executor import Executor
from dafxhost.report.page import Page
from dafxhost.report.pictures import add_spectra
from dafxhost.report.sound import Version, add_player
from dafxhost.training.runs import Run

_REFERENCES = {
    "ab": "other half, with the effect", "parallel": "the target itself", "two-settings": "the target itself",
}  # fmt: skip
MOST_DRAWN = 40
"""Examples drawn at most to find some with the effect."""


@dataclass(frozen=True)
class Heard:
    """An example with the controller's answer.

    Attributes:
        made: the example alone. output: `[1, T]`, peak -12 dBFS. setting: `[P]`, the controller's.
        score, untouched: MR-STFT from the target of the output, and of the input left alone.
    """

    made: ExampleBatch
    output: np.ndarray
    setting: np.ndarray
    score: float
    untouched: float

    @property
    def ratio(self) -> float:
        return self.score / self.untouched if self.untouched > 0 else math.inf


class Listening:
    """Makes examples again; use it as a context manager.

    Args:
        run: its controller is heard. effect: renders. source: as drawn from before.
        seed: of the draws. apply_probability, pairs, protocol: as they were then.
    """

    def __init__(
        self, run: Run, effect: Effect, source: AudioSource, seed: int, apply_probability: float,
        pairs: str = "ab", protocol: str = "grant",
    ) -> None:  # fmt: skip
        from dafxhost.losses import MultiResolutionSTFT
        from dafxhost.training.protocols import find_protocol

        self._protocol = find_protocol(protocol)

        self.run, self.effect, self.seed = run, effect, seed
        self._executor = Executor(effect, workers=1)
        self._distance = MultiResolutionSTFT()
        self._examples = Examples(
            source, self._executor, sample_rate=run.sample_rate, samples=run.samples,
            apply_probability=apply_probability, pairs=pairs,
        )  # fmt: skip

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.close()

    def hear(self, place: int) -> Heard | None:
        """Example number `place`; None where its render failed."""
        from dafxhost.training.scoring import score_columns

        made = self._examples.batch(self.seed, 1, first=place)
        setting = self.run.predict_batch(made.dry, made.reference)
        try:
            wet = self._executor.render(made.dry, setting, self.run.sample_rate)
        except RenderError:
            return None
        with ThreadPoolExecutor(1, "dafxhost-report") as threads:
            scores = score_columns(
                made, setting[:, None], self._executor, self._distance, self.run.sample_rate, threads,
                untouched=True, protocol=self._protocol,
            )  # fmt: skip
        return Heard(made, normalise_peak(wet[0]), setting[0], float(scores[0, 0]), float(scores[0, -1]))

    def first(self, count: int) -> list[Heard]:
        """The first so many that have the effect."""
        found: list[Heard] = []
        for place in range(MOST_DRAWN):
            if len(found) == count:
                break
            heard = self.hear(place)
            if heard is not None and bool(heard.made.applied[0]):
                found.append(heard)
        return found


def add_examples(
    page: Page, effect: Effect, rate: int, examples: Sequence[tuple[str, Heard]], *, level: int = 3
) -> None:
    """A player, spectra and the settings for each of the examples (title, example)."""
    for number, (title, heard) in enumerate(examples, 1):
        made = heard.made
        page.heading(title, level)
        page.paragraph(
            f"From {made.names[0]}: distance from the target {heard.score:.3f}, of the input left alone "
            f"{heard.untouched:.3f} (MR-STFT)."
        )
        parts = (
            ("Input", made.dry[0], 1, "the dry half"),
            ("Reference", made.reference[0], 2, _REFERENCES[made.pairs]),
            ("Target", made.target[0], 4, "what it should be"),
            ("Output", heard.output, 3, "the controller's setting"),
        )
        versions = [
            Version(name, np.asarray(audio), rate, series, detail) for name, audio, series, detail in parts
        ]
        played = add_player(page, versions, label=title, key=f"example-{number}")
        page.raw("<details><summary>Its spectra and settings</summary>")
        add_spectra(page, played)
        guessed, true = effect.table(heard.setting), effect.table(made.settings[0])
        page.table(
            ("parameter", "true", "controller"),
            [(name, right, guess) for (name, guess), (_, right) in zip(guessed, true, strict=True)],
        )
        page.raw("</details>")
