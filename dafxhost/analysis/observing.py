"""Clips through several effects at random settings, and what an encoder makes of them.

The examples are made as for training (`dafxhost.data.examples`: silent, senseless and inaudible settings are
drawn again). All effects get the same clips, so that content does not tell which effect it was. Audio is
embedded piece by piece and not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.errors import DafxhostError, UsageError

if TYPE_CHECKING:
    from dafxhost.analysis.reconstruction import Reconstructor
    from dafxhost.data.examples import ExampleBatch
    from dafxhost.data.sources import AudioSource
    from dafxhost.effects import Effect
    from dafxhost.encoders import Encoder

PAPER_EFFECTS = (
    "mda-ambience",
    "mda-combo",
    "mda-delay",
    "mda-dynamics",
    "mda-leslie",
    "mda-multiband",
    "mda-overdrive",
    "mda-ringmod",
    "mda-thruzero",
)
"""The nine of Grant 2023."""
SECONDS = 2.0
PIECE = 8
"""Examples rendered and embedded at a time."""
Progress = Callable[[str, int, int], None]


@dataclass
class Observations:
    """N examples over E effects.

    Attributes:
        effects: E effects. index: `[N]`, which of them. settings: N vectors on 0..1, as long as the effect
            has parameters. names: what recording each clip came from.
        clean, processed: `[N, D]` float64, embeddings of the clip and of the clip through the effect.
        features: by name `[N]`, measured on the processed clip; NaN where undefined.
        pictures: `[M, H, W]` or `[M, F]`, what the encoder is to reproduce, or None. rows: `[M]`, whose they
            are.
        notes: sentences about what was left out.
    """

    effects: tuple[Effect, ...]
    index: np.ndarray
    settings: list[np.ndarray]
    names: list[str]
    clean: np.ndarray
    processed: np.ndarray
    features: dict[str, np.ndarray]
    pictures: Any = None
    rows: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> list[str]:
        """The effects' names."""
        return [effect.name for effect in self.effects]

    def of(self, effect: int) -> np.ndarray:
        """Row numbers of an effect's examples."""
        return np.flatnonzero(self.index == effect)

    def values(self, effect: int) -> np.ndarray:
        """Settings of an effect's examples `[n, P]`."""
        return np.stack([self.settings[i] for i in self.of(effect)])

    def kept(self, good: np.ndarray) -> Observations:
        """Only the rows where `good` `[N]` is True."""
        chosen = np.flatnonzero(good)
        pictures, rows = self.pictures, self.rows
        if rows is not None:
            inside = np.flatnonzero(good[rows])
            pictures = pictures[inside]
            rows = np.searchsorted(chosen, rows[inside])
        return Observations(
            effects=self.effects,
            index=self.index[chosen],
            settings=[self.settings[i] for i in chosen],
            names=[self.names[i] for i in chosen],
            clean=self.clean[chosen],
            processed=self.processed[chosen],
            features={k: v[chosen] for k, v in self.features.items()},
            pictures=pictures,
            rows=rows,
            notes=list(self.notes),
        )


def find_effects(names: Sequence[str] | None, own: str = "") -> tuple[list[Effect], list[str]]:
    """(effects, notes). By default those of the paper that can be served here, and the run's own.

    Raises:
        UsageError, EffectUnavailableError: one that was asked for cannot be had, or none is left.
    """
    from dafxhost.errors import EffectUnavailableError, UnknownNameError
    from dafxhost.registry import effect as find_effect

    found: dict[str, Effect] = {}
    notes: list[str] = []
    for name in names if names is not None else PAPER_EFFECTS:
        try:
            effect = find_effect(name)
        except (EffectUnavailableError, UnknownNameError) as error:
            if names is not None:
                raise
            notes.append(f"left out: {error}")
            continue
        found[effect.name] = effect
    if names is None and own:
        try:
            effect = find_effect(own)
            found.setdefault(effect.name, effect)
        except DafxhostError as error:
            notes.append(f"the run's own effect is left out: {error}")
    if not found:
        raise UsageError("no effect to analyse with; name some with --effects a,b,c")
    return list(found.values()), notes


def observe(
    encoder: Encoder,
    effects: Sequence[Effect],
    source: AudioSource,
    examples: int,
    *,
    sample_rate: int,
    seed: int = 0,
    seconds: float = SECONDS,
    workers: int | None = None,
    reconstructor: Reconstructor | None = None,
    progress: Progress | None = None,
) -> Observations:
    """Render and embed `examples` clips for every effect.

    Args:
        sample_rate: Hz at which clips are drawn and rendered. seconds: length of a clip.
        workers: processes that render.
        reconstructor: what the encoder reproduces is kept with it, if it does reproduce anything.
        progress: called with (name of the effect, examples done, examples in all).

    Raises:
        UsageError: no examples asked for, or not one embedding is finite. AudioFileError: nothing to draw
        from.
    """
    import dafxhost
    from dafxhost.data.examples import Examples

    if examples < 1:
        raise UsageError(f"{examples} examples cannot be analysed; give at least 1")
    able = reconstructor is not None and reconstructor.has_pictures
    watch = _Watch(encoder, sample_rate, reconstructor if able else None)
    notes: list[str] = []
    for number, effect in enumerate(effects):
        with dafxhost.Executor(effect, workers=workers) as executor:
            maker = Examples(
                source,
                executor,
                sample_rate=sample_rate,
                samples=int(seconds * sample_rate),
                apply_probability=1.0,
            )
            try:
                for done, made in enumerate(maker.pieces(seed, examples, PIECE)):
                    watch.see(number, made)
                    if progress is not None:
                        progress(effect.name, number * examples + min(examples, (done + 1) * PIECE),
                                 len(effects) * examples)  # fmt: skip
            except DafxhostError as error:
                if len(effects) == 1:
                    raise
                notes.append(f"{effect.name} is left out after {watch.count(number)} examples: {error}")
    return _finished(watch, tuple(effects), notes)


class _Watch:
    """Embeds pieces and keeps what is wanted of them."""

    def __init__(self, encoder: Encoder, sample_rate: int, reconstructor: Reconstructor | None) -> None:
        self.encoder, self.sample_rate, self.reconstructor = encoder, sample_rate, reconstructor
        self.index: list[int] = []
        self.settings: list[np.ndarray] = []
        self.names: list[str] = []
        self.clean: list[np.ndarray] = []
        self.processed: list[np.ndarray] = []
        self.features: dict[str, list[float]] = {}
        self.pictures: list[Any] = []
        self.rows: list[int] = []
        # All effects get the same clips, which need to be embedded once only.
        self._known: dict[bytes, np.ndarray] = {}

    def count(self, effect: int) -> int:
        return self.index.count(effect)

    def see(self, effect: int, made: ExampleBatch) -> None:
        from dafxhost.analysis.sound import describe

        chosen = np.flatnonzero(made.applied)  # where no setting was accepted, nothing is to be seen
        if not len(chosen):
            return
        first = len(self.names)
        self.clean += self._clean(made.dry[chosen])
        self.processed += list(self._embed(made.target[chosen]))
        for i in chosen:
            self.index.append(effect)
            self.settings.append(made.settings[i])
            self.names.append(made.names[i])
            for name, value in describe(made.dry[i, 0], made.target[i, 0], self.sample_rate).items():
                self.features.setdefault(name, []).append(value)
        if self.reconstructor is not None:
            pictures, rows = self.reconstructor.pictures(
                made.dry[chosen], made.target[chosen], self.sample_rate
            )
            self.pictures.append(pictures)
            self.rows += [first + int(row) for row in rows]

    def _clean(self, dry: np.ndarray) -> list[np.ndarray]:
        keys = [hashlib.blake2b(clip.tobytes(), digest_size=16).digest() for clip in dry]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            for i, embedding in zip(new, self._embed(dry[new]), strict=True):
                self._known[keys[i]] = embedding
        return [self._known[key] for key in keys]

    def _embed(self, clips: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            audio = torch.from_numpy(np.ascontiguousarray(clips, np.float32))
            return self.encoder(audio, self.sample_rate).double().cpu().numpy()


def _finished(watch: _Watch, effects: tuple[Effect, ...], notes: list[str]) -> Observations:
    if not watch.names:
        raise DafxhostError(f"no example could be made with any effect: {' '.join(notes)}")
    pictures = None
    if watch.pictures:
        import torch

        pictures = torch.cat(watch.pictures)
    whole = Observations(
        effects, np.array(watch.index), watch.settings, watch.names, np.stack(watch.clean),
        np.stack(watch.processed), {k: np.array(v) for k, v in watch.features.items()},
        pictures, np.array(watch.rows) if pictures is not None else None, notes,
    )  # fmt: skip
    good = np.isfinite(np.concatenate([whole.clean, whole.processed], axis=1)).all(axis=1)
    good = np.asarray(good)
    if not good.any():
        raise DafxhostError(
            f"none of the {len(whole)} embeddings is finite: the encoder's weights are broken; train it again"
        )
    if not good.all():
        notes.append(f"{int((~good).sum())} of {len(whole)} examples are left out: their embeddings hold NaN")
        whole = whole.kept(good)
    return whole
