"""Examples for training and measuring: an input, a reference and a target made with known settings.

Which clips and settings make an example is `pairs`' business; the default is A/B halves. Its protocol is
Grant's ("Style Transfer for Non-differentiable Audio Effects", AES 155, 2023). The order of
its steps and the signals they look at were read from his public code (github.com/kieran-grant/
nd-audio-style-transfer: dataset/paired_audio_dataset.py, wrappers/dafx_wrapper.py, utils/utils.py):

1. a clip of 2 T samples from a uniformly drawn file, redrawn while either half is silent;
2. peak to -12 dBFS, linear fades of 50 ms;
3. with probability 0.9 the effect at a uniformly drawn setting, redrawn while what comes out, before any
   normalisation, is silent (mean square below 1e-5) or senseless (the cosine of 30 MFCCs with the dry clip's,
   frame by frame, is below 0.75 on average); after 100 redraws the clip is left dry;
4. peak to -12 dBFS again; one half is input and target, the other the reference.

Where we differ, and why. The paper asks for a redraw when the *change* is inaudible (mean square of wet minus
dry below 1e-5), which that code does not test: here both are tested. Fades, peak level (after the fade) and
rendering are done for each half by itself, from a reset plugin, so that the target is exactly what the effect
can make of the dry input (rendered as one clip, the second half would begin with the first one's
reverberation), and so that everything lies at -12 dBFS. The first half is always the input. After 25 refused
settings another clip is drawn, since some clips suit no setting.

What it costs. Clips are written once, into the executor's shared memory, and rendered and returned from
there; the rules read what came out without copying it (`judging`); batches are made side by side
(`stream.ExampleStream`).
`python benchmarks/data_speed.py` measures it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dafxhost.data.features import normalise_into, prepare_into
from dafxhost.data.judging import INAUDIBLE, SENSELESS, SILENT, DryFeatures, Judge
from dafxhost.data.pairs import PairKind, pair_kind
from dafxhost.data.setting_draws import SettingDraw, UniformDraw
from dafxhost.data.sources import AudioSource
from dafxhost.errors import DafxhostError, UsageError

SAMPLE_RATE = 24000
SAMPLES = 131072
APPLY_PROBABILITY = 0.9
MAX_REDRAWS = 100
NEW_CLIP_AFTER = 25


class Renderer(Protocol):
    """What `Examples` needs of an executor; also `empty`, where it has it."""

    @property
    def effect(self) -> Any: ...

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: Any = ...) -> Any: ...


@dataclass(frozen=True)
class ExampleBatch:
    """B examples.

    Attributes:
        dry: `[B, 1, T]` float32, the input, peak -12 dBFS: dry, or with pairs "two-settings" the clip at the
            first setting.
        reference: `[B, 1, T]` float32, peak -12 dBFS: half B through the effect, or `target`.
        target: `[B, 1, T]` float32, the input's clip through the effect, peak -12 dBFS.
        settings: `[B, P]` float64 on 0..1, the setting of reference and target; a discrete parameter's lies
            in the middle of its bin.
        applied: `[B]` bool. Where it is False the effect was left out: all audio is dry, and the setting says
            nothing about it.
        names: what each clip came from.
        counts: how often something was drawn or refused: "settings" drawn, of those refused as "silent",
            "inaudible", "senseless" or "failed" (not finite, or not rendered); "new_clips"; examples
            "not_applied" by chance and "given_up". What never happened is 0 or absent.
        seed, first: what `Examples.batch` was called with.
        pairs: kind of the examples, see `dafxhost.data.pairs`.
        input_settings: `[B, P]`, the setting of the input, or None where it is dry.
        reference_dry: `[B, 1, T]` float32, half B before the effect, which training must not look at; None
            where whoever made the batch has not kept it.
        complete: False where `target` and `reference` are left to whoever renders the settings.
    """

    dry: np.ndarray
    reference: np.ndarray
    target: np.ndarray
    settings: np.ndarray
    applied: np.ndarray
    names: list[str]
    counts: dict[str, int]
    seed: int = 0
    first: int = 0
    pairs: str = "ab"
    input_settings: np.ndarray | None = None
    reference_dry: np.ndarray | None = None
    complete: bool = True

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sources(self) -> list[str]:
        return self.names


@dataclass
class _Draft:
    """One example in the making."""

    rng: np.random.Generator
    dry: np.ndarray  # [R, 1, T], where the batch's dry clips are
    name: str
    applied: bool
    settings: np.ndarray  # [K, P]
    features: DryFeatures
    wet: list[Any] = field(default_factory=list)  # K of [R, 1, T]
    open: list[int] = field(default_factory=list)  # numbers of the settings to be rendered
    refused: int = 0


class Examples:
    """Makes examples of one effect from one source; the module's text says how.

    Args:
        source: where clips come from.
        executor: renders the effect (a `dafxhost.Executor`).
        sample_rate: Hz. samples: T, at least 1024; with pairs "ab" clips of 2 T are drawn, else of T.
        pairs: kind of the examples, see `dafxhost.data.pairs`.
        draws: where settings come from; uniform on 0..1 by default.
        apply_probability: how often the effect is applied at all.
        inaudible: mean square of (wet - dry) below which a setting is redrawn; with pairs "two-settings", of
            the difference between the two.
        senseless: mean cosine of the MFCCs below which a setting is redrawn.
        silent: mean square of the wet clips below which a setting is redrawn.
        max_redraws: refused settings after which an example is left dry.
        new_clip_after: refused settings after which another clip is drawn.
    """

    def __init__(
        self,
        source: AudioSource,
        executor: Renderer,
        *,
        sample_rate: int = SAMPLE_RATE,
        samples: int = SAMPLES,
        pairs: str = "ab",
        draws: SettingDraw | None = None,
        apply_probability: float = APPLY_PROBABILITY,
        inaudible: float = INAUDIBLE,
        senseless: float = SENSELESS,
        silent: float = SILENT,
        max_redraws: int = MAX_REDRAWS,
        new_clip_after: int = NEW_CLIP_AFTER,
    ) -> None:
        """Raises UsageError: a value out of range. UnknownNameError: no such kind of pairs."""
        if samples < 1024:
            raise UsageError(f"examples of {samples} samples are too short; at least 1024 are needed")
        if not 0.0 <= apply_probability <= 1.0:
            raise UsageError(f"the effect cannot be applied with probability {apply_probability}")
        if max_redraws < 1 or new_clip_after < 1:
            raise UsageError("max_redraws and new_clip_after must be at least 1")
        self.source, self.executor = source, executor
        self.sample_rate, self.samples = sample_rate, samples
        self.kind: PairKind = pair_kind(pairs)
        self.draws = draws or UniformDraw(executor.effect)
        self.apply_probability = apply_probability
        self.judge = Judge(sample_rate, inaudible, senseless, silent)
        self.max_redraws, self.new_clip_after = max_redraws, new_clip_after

    def batch(self, seed: int, n: int, *, first: int = 0) -> ExampleBatch:
        """Examples number `first` to `first + n - 1` of this seed; may be called from several threads at
        once.

        Example k depends on the seed and k alone: not on n, on earlier calls or on the number of workers. So
        a set of any size can be made in pieces, `batch(seed, 8, first=0)`, `batch(seed, 8, first=8)` etc.

        Raises:
            AudioFileError: the source has nothing that sounds.
            DafxhostError: no example could be made: every setting tried was refused, with the counts.
        """
        if n < 1 or seed < 0 or first < 0:
            raise UsageError(f"a batch needs n >= 1, seed >= 0 and first >= 0, not {n}, {seed} and {first}")
        counts: Counter[str] = Counter()
        dry = self._room(self.kind.rows, n, 1, self.samples)
        drafts = [self._draft(seed, first + k, dry[:, k]) for k in range(n)]
        pending = [draft for draft in drafts if draft.applied]
        tried = len(pending)
        counts["not_applied"] = n - tried
        if tried == n:
            self._render_all(pending, dry)
            pending = [draft for draft in pending if not self._settled(draft, counts)]
        while pending:
            self._render_open(pending)
            pending = [draft for draft in pending if not self._settled(draft, counts)]
        if tried and counts["given_up"] == tried:
            raise DafxhostError(self._all_refused(tried, counts))
        return self._collect(drafts, dry, counts, seed, first)

    def pieces(self, seed: int, total: int, batch: int) -> Iterator[ExampleBatch]:
        """`total` examples in batches of `batch`, one in memory at a time."""
        for first in range(0, total, batch):
            yield self.batch(seed, min(batch, total - first), first=first)

    def _room(self, *shape: int) -> np.ndarray:
        """Memory for float32 audio: the workers' own, where there is such."""
        empty = getattr(self.executor, "empty", None)
        return np.empty(shape, np.float32) if empty is None else empty(shape)

    def _draft(self, seed: int, k: int, dry: np.ndarray) -> _Draft:
        # The same as SeedSequence(seed).spawn(k + 1)[k].
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,)))
        applied = bool(rng.random() < self.apply_probability)
        name = self._clip(rng, dry)
        settings = np.stack([self.draws.draw(rng) for _ in range(self.kind.columns)])
        features = DryFeatures(dry, self.sample_rate)
        open_ = list(range(self.kind.columns))
        return _Draft(rng, dry, name, applied, settings, features, [dry for _ in open_], open_)

    def _clip(self, rng: np.random.Generator, out: np.ndarray) -> str:
        """Draw a clip into `[R, 1, T]`; its name."""
        clip, name = self.source.draw(rng, self.kind.rows * self.samples, self.sample_rate)
        for row, part in enumerate(clip.reshape(self.kind.rows, 1, self.samples)):
            prepare_into(out[row], part, self.sample_rate)
        return name

    def _render_all(self, drafts: list[_Draft], dry: np.ndarray) -> None:
        """Render all settings of all drafts of a batch, whose dry clips lie one after the other."""
        rows, columns = self.kind.rows, self.kind.columns
        settings = np.stack([draft.settings for draft in drafts])
        settings = np.concatenate([settings] * rows)
        wet = self._rendered(dry.reshape(-1, 1, self.samples), settings)
        wet = wet.reshape(rows, len(drafts), columns, 1, self.samples)
        for i, draft in enumerate(drafts):
            draft.wet = [wet[:, i, k] for k in range(columns)]

    def _render_open(self, drafts: list[_Draft]) -> None:
        """Render those settings of some drafts that were not rendered yet, in one call."""
        jobs = [(draft, k) for draft in drafts for k in draft.open]
        rows = self.kind.rows
        audio = self._room(len(jobs), rows, 1, self.samples)
        for place, (draft, _) in zip(audio, jobs, strict=True):
            place[...] = draft.dry
        settings = np.stack([draft.settings[k] for draft, k in jobs]).repeat(rows, axis=0)
        wet = self._rendered(audio.reshape(-1, 1, self.samples), settings[:, None])
        for (draft, k), clips in zip(jobs, wet.reshape(-1, rows, 1, self.samples), strict=True):
            draft.wet[k] = clips

    def _rendered(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        return np.asarray(self.executor.render(audio, settings, self.sample_rate, on_error="nan"))

    def _settled(self, draft: _Draft, counts: Counter[str]) -> bool:
        """Whether the draft's settings are accepted, or given up; otherwise draws those refused anew."""
        refused: list[int] = []
        for k in draft.open:
            counts["settings"] += 1
            fault = self.judge.fault(draft.wet[k], draft.features, audible=self.kind.columns == 1)
            if fault is None and k == self.kind.target_column and not refused:
                others = draft.wet[:k]
                fault = "inaudible" if any(self.judge.alike(draft.wet[k], o) for o in others) else None
            if fault is not None:
                counts[fault] += 1
                refused.append(k)
        draft.open = refused
        if not refused:
            return True
        return self._redrawn(draft, counts)

    def _redrawn(self, draft: _Draft, counts: Counter[str]) -> bool:
        """Draw what was refused anew; True if the draft is given up instead."""
        before = draft.refused // self.new_clip_after
        draft.refused += len(draft.open)
        if draft.refused >= self.max_redraws:
            counts["given_up"] += 1
            draft.applied, draft.open = False, []
            return True
        if draft.refused // self.new_clip_after > before:
            counts["new_clips"] += 1
            draft.name = self._clip(draft.rng, draft.dry)
            draft.features = DryFeatures(draft.dry, self.sample_rate)
            draft.open = list(range(self.kind.columns))
        for k in draft.open:
            draft.settings[k] = self.draws.draw(draft.rng)
        return False

    def _collect(
        self, drafts: list[_Draft], dry: np.ndarray, counts: Counter[str], seed: int, first: int
    ) -> ExampleBatch:
        kind, n = self.kind, len(drafts)
        target = self._room(n, 1, self.samples)
        reference = self._room(n, 1, self.samples) if kind.reference_row else target
        audio = dry[0] if kind.input_column < 0 else self._room(n, 1, self.samples)
        last = kind.target_column
        for i, draft in enumerate(drafts):
            self._finish(target[i], draft, last, 0)
            if kind.reference_row:
                self._finish(reference[i], draft, last, kind.reference_row)
            if kind.input_column >= 0:
                self._finish(audio[i], draft, kind.input_column, 0)
        settings = np.stack([draft.settings for draft in drafts])
        return ExampleBatch(
            dry=audio,
            reference=reference,
            target=target,
            settings=settings[:, last].copy(),
            applied=np.array([draft.applied for draft in drafts]),
            names=[draft.name for draft in drafts],
            counts=dict(counts),
            seed=seed,
            first=first,
            pairs=kind.name,
            input_settings=settings[:, kind.input_column].copy() if kind.input_column >= 0 else None,
            reference_dry=dry[kind.reference_row] if kind.reference_row else None,
        )

    @staticmethod
    def _finish(out: np.ndarray, draft: _Draft, column: int, row: int) -> None:
        """What was left dry is at its level already, and stays the same to the bit."""
        if draft.applied:
            normalise_into(out, draft.wet[column][row])
        else:
            out[...] = draft.dry[row]

    def _all_refused(self, tried: int, counts: Counter[str]) -> str:
        kinds = ("inaudible", "silent", "senseless", "failed")
        faults = ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])
        failures = getattr(self.executor, "failures", None)
        reason = f" The last failure: {failures[-1].reason}." if counts["failed"] and failures else ""
        return (
            f"no example could be made with effect {self.executor.effect.name!r}: all of "
            f"{counts['settings']} {self.draws.name} settings on {tried} clips were refused "
            f"({faults}).{reason}"
        )
