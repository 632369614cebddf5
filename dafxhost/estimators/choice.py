"""Steps and estimator for an effect, chosen from what its loss does along each parameter.

Examples are made whose true setting is known. For each continuous parameter the loss is taken on a grid over
0..1, the other parameters a little off their true values, and the central difference over each step at every
point of the grid is compared with the way to the true value:

    agreement(c) = sum s_c w / sqrt(sum s_c^2 sum w^2),    w = value - true value, s_c: slope over step c,

sums over all points within `REACH` of the true value and over all examples. It is what the mean gradient is
worth against its scatter: dents in the loss and jumps of its slope lower it for small steps, minima that a
large step misses for large ones. A parameter's step is the one of most agreement, its own measure and the
mean over all parameters taken together, since few examples decide.

A grid gives slopes at all its points over all steps for one render a point: `LINES` times `POINTS` renders a
parameter, once for an effect; then it is kept in the cache folder, under the plugin's identity.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

import dafxhost
from dafxhost.cache import cache_folder
from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError, UsageError
from dafxhost.estimators.base import Estimator
from dafxhost.settings import write_whole

POINTS = 21
"""Of a parameter's grid: one every 0.05."""
STRIDES = (1, 2, 4)
STEPS = tuple(k / (POINTS - 1) for k in STRIDES)
"""Steps that are compared: 0.05, 0.1, 0.2. Larger ones agree as well from afar, and lose near minima."""
LINES = 12
"""Examples a parameter's grid is rendered for."""
SCATTER = 0.2
"""Deviation of the other parameters from their true values."""
REACH = 0.5
"""Farthest from the true value that a slope counts: a controller is seldom farther off."""
LEAST = 1e-3
"""Slope, of the steepest parameter's, below which a parameter does not matter: that much is rounding."""
COMMON = 0.5
"""Weight of the mean over all parameters beside a parameter's own agreement."""
ESTIMATOR = "spsa-blocks"
"""Of as many directions never noisier than "spsa" or "random-coordinates", which are its two ends."""
DIRECTIONS = 4
"""Most directions an example."""
OVERHEAD = 10.0
"""What an example costs in training beside its estimate, in renders: five more, making it, embedding it."""
SEED = 20_000
FORMAT = 1

Losses = Callable[[Tensor], Tensor]
"""Settings of the continuous parameters `[B, K, P]` on 0..1 -> losses `[B, K]`; NaN where a render failed."""


@dataclass(frozen=True)
class Choice:
    """What was measured of an effect, and what follows from it.

    Attributes:
        effect: its name. parameters: its continuous ones.
        steps: chosen for each of them, on 0..1.
        agreement: for each, at each of `STEPS`, on -1..1; 0 where the parameter does not matter.
        roughness: for each, how many times steeper the loss is over the smallest step than over the largest
            (root mean squares): 1 for a smooth one.
        estimator, directions: registered name, and random directions an example.
        render_ms, loss_ms: one worker's time for a render with its transport, and for its loss.
    """

    effect: str
    parameters: tuple[str, ...]
    steps: tuple[float, ...]
    agreement: tuple[tuple[float, ...], ...]
    roughness: tuple[float, ...]
    estimator: str
    directions: int
    render_ms: float
    loss_ms: float

    def make(self) -> Estimator:
        """The estimator, for settings of the continuous parameters in their order.

        An effect without any gets one with the default step, which has nothing to do.
        """
        options: dict[str, Any] = {"step": self.steps} if self.parameters else {}
        return dafxhost.estimator(self.estimator, directions=self.directions, **options)

    def rows(self) -> list[tuple[str, ...]]:
        """For people: parameter, chosen step, roughness, agreement at each of `STEPS`."""
        columns = zip(self.parameters, self.steps, self.roughness, self.agreement, strict=True)
        return [(n, f"{s:g}", f"{r:.1f}", *(f"{a:.2f}" for a in row)) for n, s, r, row in columns]


def lines(losses: Losses, truth: Tensor, *, points: int = POINTS, seed: int = 0) -> Tensor:
    """Losses along each parameter, the others near the truth `[B, P]` -> `[P, B, points]`."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.linspace(0.0, 1.0, points, dtype=torch.float64)
    found = []
    for i in range(truth.shape[1]):
        noise = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
        around = (truth + SCATTER * noise).clamp(0.0, 1.0)
        settings = around.unsqueeze(1).repeat(1, points, 1)
        settings[..., i] = grid
        found.append(losses(settings).to(torch.float64))
    return torch.stack(found) if found else torch.zeros(0, len(truth), points, dtype=torch.float64)


def slopes(scan: Tensor, stride: int) -> Tensor:
    """Differences of `[..., points]` losses over `stride` points either side, clipped at the ends, by their
    distance; 0 where one failed.
    """
    at = torch.arange(scan.shape[-1])
    high, low = (at + stride).clamp(max=len(at) - 1), (at - stride).clamp(min=0)
    difference = (scan[..., high] - scan[..., low]) / ((high - low) / (len(at) - 1))
    return torch.where(difference.isfinite(), difference, 0.0)


def agreements(scan: Tensor, truth: Tensor, strides: Sequence[int] = STRIDES) -> tuple[Tensor, Tensor]:
    """(agreement `[P, S]`, root mean square of the slopes `[P, S]`) of `lines` `[P, B, points]`."""
    grid = torch.linspace(0.0, 1.0, scan.shape[-1], dtype=torch.float64)
    way = grid - truth.T.unsqueeze(-1)
    counts = (way.abs() <= REACH).to(torch.float64)
    way = way * counts
    agreement, size = [], []
    for stride in strides:
        s = slopes(scan, stride) * counts
        square = s.square().sum(dim=(1, 2))
        scale = (square * way.square().sum(dim=(1, 2))).sqrt()
        agreement.append(torch.where(scale > 0, (s * way).sum(dim=(1, 2)) / scale.clamp(min=1e-300), 0.0))
        size.append((square / counts.sum(dim=(1, 2)).clamp(min=1)).sqrt())
    sizes = torch.stack(size, dim=1)
    matters = sizes >= LEAST * sizes.amax(dim=0, keepdim=True).clamp(min=1e-300)
    return torch.where(matters, torch.stack(agreement, dim=1), 0.0), sizes


def best_steps(agreement: Tensor) -> Tensor:
    """Agreement `[P, S]` at `STEPS` -> index of each parameter's step `[P]`."""
    common = agreement.mean(dim=0, keepdim=True)
    return ((1 - COMMON) * agreement + COMMON * common).argmax(dim=1)


def best_directions(agreement: Tensor, size: Tensor, chosen: Tensor, overhead: float = OVERHEAD) -> int:
    """How many blocks tell most for the time they take, as far as slopes add up.

    Args:
        agreement, size: `[P, S]`, see `agreements`. chosen: `[P]`, see `best_steps`.
        overhead: of an example beside its estimate, in renders.

    With D blocks, parameter i's estimate has its own slope's mean square e_i and, from the others in its
    block, (P / D - 1) / (P - 1) times the sum of (c_j / c_i)^2 e_j. What a batch's mean tells of the way to
    the true value grows as the sum of agreement_i^2 / (1 + noise_i / e_i), and with the number of examples,
    which falls as 1 / (overhead + 2 D).
    """
    rows = torch.arange(len(chosen))
    agreed = agreement[rows, chosen].clamp(min=0.0).square()
    steps = torch.tensor(STEPS, dtype=torch.float64)[chosen]
    moved = (steps * size[rows, chosen]).square()
    noise = (moved.sum() - moved) / moved.clamp(min=1e-300)
    parameters = len(chosen)
    worth = []
    for directions in range(1, min(DIRECTIONS, parameters) + 1):
        share = (parameters / directions - 1) / max(1, parameters - 1)
        worth.append(float((agreed / (1 + share * noise)).sum()) / (overhead + 2 * directions))
    return 1 + max(range(len(worth)), key=lambda k: round(worth[k], 12))


def measure(executor: Any, loss: Any, *, sample_rate: int, samples: int, examples: int = LINES) -> Choice:
    """Measure the effect of an executor and choose; clips are of the built-in synthetic corpus.

    Args:
        executor: renders. loss: with `prepare` and `distance` (see losses.py), the one to be trained on.
        sample_rate: Hz. samples: of an excerpt, as the loss is taken in training.
        examples: different clips and true settings.

    Raises:
        UsageError: no examples. DafxhostError: no example could be made of this effect.
    """
    from dafxhost.data.corpus import SyntheticCorpus
    from dafxhost.data.examples import Examples

    if examples < 1:
        raise UsageError(f"at least one example is needed to choose from, not {examples}")
    effect: Effect = executor.effect
    names = tuple(p.name for p in effect.parameters if not p.levels)
    if not names:
        return Choice(effect.name, (), (), (), (), ESTIMATOR, 1, 0.0, 0.0)
    source = SyntheticCorpus(sample_rate, split="train", bank=min(12, examples))
    maker = Examples(source, executor, sample_rate=sample_rate, samples=samples, apply_probability=1.0)
    batch = maker.batch(SEED, examples)
    clock = _Clock()
    dry, target, settings = (torch.from_numpy(x) for x in (batch.dry, batch.target, batch.settings))
    prepared = [loss.prepare(target[i : i + 1]) for i in range(len(target))]
    moves = torch.tensor([not p.levels for p in effect.parameters])

    def losses(tried: Tensor) -> Tensor:
        full = settings.double()[:, None].repeat(1, tried.shape[1], 1)
        full[..., moves] = tried
        rows = []
        for i in range(len(full)):  # an example at a time: a grid of renders is some ten megabytes
            with clock.renders(tried.shape[1]):
                wet = executor.render(dry[i : i + 1], full[i : i + 1], sample_rate, on_error="nan")
            with clock.losses(), torch.no_grad():
                rows.append(loss.distance(wet, prepared[i])[0])
        return torch.stack(rows)

    truth = settings.double()[:, moves]
    agreement, size = agreements(lines(losses, truth), truth)
    chosen = best_steps(agreement)
    return Choice(
        effect.name,
        names,
        tuple(STEPS[int(k)] for k in chosen),
        tuple(tuple(round(float(a), 4) for a in row) for row in agreement),
        tuple(round(float(row[0] / row[-1]), 3) if row[-1] > 0 else 1.0 for row in size),
        ESTIMATOR,
        best_directions(agreement, size, chosen),
        round(1e3 * clock.render_seconds / clock.count, 3),
        round(1e3 * clock.loss_seconds / clock.count, 3),
    )


def chosen(executor: Any, loss: Any, *, sample_rate: int, samples: int) -> Choice:
    """By `measure`, or what was kept of it for this plugin, loss, rate and length."""
    place = cache_folder() / f"estimator-{_key(executor.effect, loss, sample_rate, samples)}.json"
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        return Choice(**{k: _tuples(v) for k, v in kept.items()})
    except (OSError, ValueError, AttributeError, TypeError):
        pass  # not measured yet, or broken
    choice = measure(executor, loss, sample_rate=sample_rate, samples=samples)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps(asdict(choice), indent=1).encode())
    except (OSError, DafxhostError):
        pass  # a read-only home is no reason to fail
    return choice


class _Clock:
    """Seconds spent rendering and judging."""

    def __init__(self) -> None:
        self.count, self.render_seconds, self.loss_seconds = 0, 0.0, 0.0
        self._began, self._of = 0.0, ""

    def renders(self, count: int) -> _Clock:
        self.count, self._of = self.count + count, "render_seconds"
        return self

    def losses(self) -> _Clock:
        self._of = "loss_seconds"
        return self

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        setattr(self, self._of, getattr(self, self._of) + time.perf_counter() - self._began)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _key(effect: Effect, loss: Any, sample_rate: int, samples: int) -> str:
    provider = effect.provider
    facts = [FORMAT, effect.name, provider.name, provider.identity or dafxhost.__version__]
    facts += [sample_rate, samples, dict(provider.options), effect.parameter_names, _named(loss)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _named(loss: Any) -> list[Any]:
    """What tells one loss from another: its class and its public plain attributes."""
    own = vars(loss).items()
    plain = {k: v for k, v in own if not k.startswith("_") and isinstance(v, int | float | str)}
    sizes = getattr(getattr(loss, "stft", None), "fft_sizes", ())
    return [type(loss).__qualname__, sorted((k, str(v)) for k, v in plain.items()), list(sizes)]
