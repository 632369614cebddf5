"""Examples for training and measuring: a dry input, and a reference and a target made with one setting.

The protocol is Grant's ("Style Transfer for Non-differentiable Audio Effects", AES 155, 2023). The order of
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
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dafxhost.data.features import cosine, fade, mfcc, normalise_peak
from dafxhost.data.sources import AudioSource
from dafxhost.errors import DafxhostError, UsageError

SAMPLE_RATE = 24000
SAMPLES = 131072
APPLY_PROBABILITY = 0.9
INAUDIBLE = 1e-5
SENSELESS = 0.75
SILENT = 1e-5
MAX_REDRAWS = 100
NEW_CLIP_AFTER = 25


class Renderer(Protocol):
    """What `Examples` needs of an executor."""

    @property
    def effect(self) -> Any: ...

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: Any = ...) -> Any: ...


@dataclass(frozen=True)
class ExampleBatch:
    """B examples.

    Attributes:
        dry: `[B, 1, T]` float32, half A, peak -12 dBFS.
        reference: `[B, 1, T]` float32, half B through the effect, peak -12 dBFS.
        target: `[B, 1, T]` float32, half A through the effect, peak -12 dBFS.
        settings: `[B, P]` float64 on 0..1, the setting drawn; a discrete parameter's lies in the middle of
            its bin.
        applied: `[B]` bool. Where it is False the effect was left out: reference and target are the dry
            halves, and the setting says nothing about them.
        names: what each clip came from.
        counts: how often something was drawn or refused: "settings" drawn, of those refused as "silent",
            "inaudible", "senseless" or "failed" (not finite, or not rendered); "new_clips"; examples
            "not_applied" by chance and "given_up". What never happened is 0 or absent.
        seed, first: what `Examples.batch` was called with.
        reference_dry: `[B, 1, T]` float32, half B before the effect, which training must not look at; None
            where whoever made the batch has not kept it.
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
    reference_dry: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sources(self) -> list[str]:
        return self.names


@dataclass
class _Draft:
    """One example in the making."""

    rng: np.random.Generator
    halves: np.ndarray  # [2, 1, T], dry A and B
    name: str
    applied: bool
    features: np.ndarray | None = None  # MFCCs of the dry halves [frames, 30], made when first needed
    wet: np.ndarray = field(default_factory=lambda: np.zeros(0))
    setting: np.ndarray = field(default_factory=lambda: np.zeros(0))
    refused: int = 0


class Examples:
    """Makes examples of one effect from one source; the module's text says how.

    Args:
        source: where clips come from.
        executor: renders the effect (a `dafxhost.Executor`).
        sample_rate: Hz. samples: T, at least 1024; clips of 2 T are drawn.
        apply_probability: how often the effect is applied at all.
        inaudible: mean square of (wet - dry) below which a setting is redrawn.
        senseless: mean cosine of the MFCCs below which a setting is redrawn.
        silent: mean square of the wet halves below which a setting is redrawn.
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
        apply_probability: float = APPLY_PROBABILITY,
        inaudible: float = INAUDIBLE,
        senseless: float = SENSELESS,
        silent: float = SILENT,
        max_redraws: int = MAX_REDRAWS,
        new_clip_after: int = NEW_CLIP_AFTER,
    ) -> None:
        if samples < 1024:
            raise UsageError(f"examples of {samples} samples are too short; at least 1024 are needed")
        if not 0.0 <= apply_probability <= 1.0:
            raise UsageError(f"the effect cannot be applied with probability {apply_probability}")
        if max_redraws < 1 or new_clip_after < 1:
            raise UsageError("max_redraws and new_clip_after must be at least 1")
        self.source, self.executor = source, executor
        self.sample_rate, self.samples = sample_rate, samples
        self.apply_probability = apply_probability
        self.inaudible, self.senseless, self.silent = inaudible, senseless, silent
        self.max_redraws, self.new_clip_after = max_redraws, new_clip_after

    def batch(self, seed: int, n: int, *, first: int = 0) -> ExampleBatch:
        """Examples number `first` to `first + n - 1` of this seed.

        Example k depends on the seed and k alone: not on n, on earlier calls or on the number of workers. So
        a set of any size can be made in pieces, `batch(seed, 8, first=0)`, `batch(seed, 8, first=8)` etc.

        Raises:
            AudioFileError: the source has nothing that sounds.
            DafxhostError: no example could be made: every setting tried was refused, with the counts.
        """
        if n < 1 or seed < 0 or first < 0:
            raise UsageError(f"a batch needs n >= 1, seed >= 0 and first >= 0, not {n}, {seed} and {first}")
        counts: Counter[str] = Counter()
        drafts = [self._draft(seed, first + k) for k in range(n)]
        pending = [draft for draft in drafts if draft.applied]
        tried = len(pending)
        counts["not_applied"] = n - tried
        while pending:
            self._render(pending)
            pending = [draft for draft in pending if not self._settled(draft, counts)]
        if tried and counts["given_up"] == tried:
            raise DafxhostError(self._all_refused(tried, counts))
        return self._collect(drafts, counts, seed, first)

    def pieces(self, seed: int, total: int, batch: int) -> Iterator[ExampleBatch]:
        """`total` examples in batches of `batch`, one in memory at a time."""
        for first in range(0, total, batch):
            yield self.batch(seed, min(batch, total - first), first=first)

    def _draft(self, seed: int, k: int) -> _Draft:
        # The same as SeedSequence(seed).spawn(k + 1)[k].
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,)))
        applied = bool(rng.random() < self.apply_probability)
        halves, name = self._clip(rng)
        return _Draft(rng, halves, name, applied, wet=halves, setting=self._setting(rng))

    def _clip(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        clip, name = self.source.draw(rng, 2 * self.samples, self.sample_rate)
        halves = clip.reshape(2, 1, self.samples)
        return normalise_peak(fade(halves, self.sample_rate)), name

    def _setting(self, rng: np.random.Generator) -> np.ndarray:
        parameters = self.executor.effect.parameters
        drawn = rng.random(len(parameters))
        return np.array([float(p.quantise(u)) for p, u in zip(parameters, drawn, strict=True)])

    def _render(self, drafts: list[_Draft]) -> None:
        """Render both halves of all drafts in one call."""
        audio = np.concatenate([draft.halves for draft in drafts])
        settings = np.stack([draft.setting for draft in drafts]).repeat(2, axis=0)
        wet = self.executor.render(audio, settings[:, None, :], self.sample_rate, on_error="nan")
        for draft, halves in zip(drafts, np.asarray(wet).reshape(-1, 2, 1, self.samples), strict=True):
            draft.wet = halves

    def _settled(self, draft: _Draft, counts: Counter[str]) -> bool:
        """Whether the draft's setting is accepted, or given up; otherwise draws the next one."""
        counts["settings"] += 1
        fault = self._fault(draft)
        if fault is None:
            return True
        counts[fault] += 1
        draft.refused += 1
        if draft.refused >= self.max_redraws:
            counts["given_up"] += 1
            draft.applied, draft.wet = False, draft.halves
            return True
        if draft.refused % self.new_clip_after == 0:
            counts["new_clips"] += 1
            draft.halves, draft.name = self._clip(draft.rng)
            draft.features = None
        draft.setting = self._setting(draft.rng)
        return False

    def _fault(self, draft: _Draft) -> str | None:
        """Why the setting is refused, or None. Looks at the wet halves as they came out of the effect."""
        wet, dry = draft.wet, draft.halves
        if not np.isfinite(wet).all():
            return "failed"
        # A half without any peak could not be normalised.
        if float(np.mean(np.square(wet))) < self.silent or float(np.abs(wet).max(axis=-1).min()) < 1e-4:
            return "silent"
        if float(np.mean(np.square(wet - dry))) < self.inaudible:
            return "inaudible"
        if draft.features is None:
            draft.features = self._features(dry)
        if float(cosine(draft.features, self._features(wet)).mean()) < self.senseless:
            return "senseless"
        return None

    def _features(self, halves: np.ndarray) -> np.ndarray:
        return np.concatenate([mfcc(half[0], self.sample_rate) for half in halves])

    def _collect(self, drafts: list[_Draft], counts: Counter[str], seed: int, first: int) -> ExampleBatch:
        # [B, 2, 1, T]; what was left dry is there already, and stays the same to the bit.
        wet = np.stack([normalise_peak(draft.wet) if draft.applied else draft.wet for draft in drafts])
        return ExampleBatch(
            dry=np.stack([draft.halves[0] for draft in drafts]),
            reference=np.ascontiguousarray(wet[:, 1]),
            target=np.ascontiguousarray(wet[:, 0]),
            settings=np.stack([draft.setting for draft in drafts]),
            applied=np.array([draft.applied for draft in drafts]),
            names=[draft.name for draft in drafts],
            counts=dict(counts),
            seed=seed,
            first=first,
            reference_dry=np.stack([draft.halves[1] for draft in drafts]),
        )

    def _all_refused(self, tried: int, counts: Counter[str]) -> str:
        kinds = ("inaudible", "silent", "senseless", "failed")
        faults = ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])
        failures = getattr(self.executor, "failures", None)
        reason = f" The last failure: {failures[-1].reason}." if counts["failed"] and failures else ""
        return (
            f"no example could be made with effect {self.executor.effect.name!r}: all of "
            f"{counts['settings']} random settings on {tried} clips were refused ({faults}).{reason}"
        )


class ExampleStream:
    """An endless series of batches, made ahead in a thread of its own. Iterate, and close it (`with`).

    Batch i is `examples.batch(seed + i, batch)`, whatever was made before: to resume after n batches, pass
    `start=n`.
    The executor is called from the stream's thread; with `ahead=0` there is no thread, and batches are made
    when asked for.

    Args:
        examples: makes the batches. batch: examples in each.
        seed: of batch 0. start: number of the first batch. ahead: how many to keep ready.

    Attributes:
        index: number of the batch that comes next.
    """

    def __init__(self, examples: Examples, batch: int, seed: int, start: int = 0, ahead: int = 2) -> None:
        self.index = start
        self._examples, self._batch, self._seed = examples, batch, seed
        self._queue: queue.Queue[ExampleBatch | BaseException] = queue.Queue(max(ahead, 1))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if ahead > 0:
            self._thread = threading.Thread(
                target=self._produce, args=(start,), name="dafxhost-examples", daemon=True
            )
            self._thread.start()

    def _attempt(self, index: int) -> ExampleBatch | BaseException:
        try:
            return self._examples.batch(self._seed + index, self._batch)
        except BaseException as error:  # noqa: BLE001  (raised again by __next__, in the consumer's thread)
            return error

    def _produce(self, index: int) -> None:
        while not self._stop.is_set():
            item = self._attempt(index)
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            index += 1

    def __iter__(self) -> Iterator[ExampleBatch]:
        return self

    def __next__(self) -> ExampleBatch:
        """The next batch. Raises what making it raised, and StopIteration once the stream is closed."""
        if self._stop.is_set():
            raise StopIteration
        item = self._attempt(self.index) if self._thread is None else self._take()
        if isinstance(item, BaseException):
            self.close()
            raise item
        self.index += 1
        return item

    def _take(self) -> ExampleBatch | BaseException:
        # A bounded wait, so that Ctrl-C gets through on every platform, and a close from elsewhere ends it.
        while True:
            try:
                return self._queue.get(timeout=0.2)
            except queue.Empty:
                if self._stop.is_set():
                    raise StopIteration from None

    def close(self) -> None:
        """Stop making batches; waits for the one in the making."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> ExampleStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
