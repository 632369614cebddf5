"""How sure a controller is: intervals, entropy, and whether they can be believed.

A controller gives a distribution for each parameter (`[B, P, L]` logits). Networks tend to be too sure of
themselves; one number T a parameter, by which its logits are divided, mends most of that and changes no
choice (temperature scaling: Guo et al. 2017, "On Calibration of Modern Neural Networks"). It is fitted on
validation examples when training ends and kept in the run as calibration.json.

The entry of a continuous parameter stands for the settings nearer to it than to any other, all alike likely.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dafxhost.errors import RunError, ShapeError, UsageError

if TYPE_CHECKING:
    from dafxhost.data.examples import ExampleBatch
    from dafxhost.parameters import Parameter
    from dafxhost.training.controller import Controller
    from dafxhost.training.runs import Run

CALIBRATION = "calibration.json"
"""File in a run folder: temperatures by checkpoint."""
LEVEL = 0.8
"""Share of the probability that an interval holds, by default."""
LEVELS = (0.5, 0.8, 0.95)
BINS = 10
"""Ranges of confidence of the expected calibration error."""
COLDEST, HOTTEST = 0.1, 10.0
LEAST = 16
"""Examples below which no temperature is fitted: it would be chance."""


@dataclass(frozen=True)
class ParameterUncertainty:
    """What is known of one parameter.

    Attributes:
        name: of the parameter. level: share of the probability within the interval.
        low, high: ends of the central interval, on 0..1; of a discrete parameter both its likeliest value.
        low_text, high_text: the same in native units, as text for people.
        entropy: of the distribution over that of the uniform one: 0 is sure, 1 knows nothing.
        confidence: of a discrete parameter, the probability of its likeliest value; else None.
        calibrated: whether a temperature was fitted for this run.
    """

    name: str
    level: float
    low: float
    high: float
    low_text: str
    high_text: str
    entropy: float
    confidence: float | None
    calibrated: bool

    def text(self) -> str:
        """ "48 to 80 %", or "71 % sure" of a choice."""
        if self.confidence is not None:
            return f"{100 * self.confidence:.0f} % sure"
        number, _, unit = self.low_text.partition(" ")
        same = unit and self.high_text.endswith(" " + unit)
        return f"{number if same else self.low_text} to {self.high_text}"


def edges(values: Tensor) -> Tensor:
    """Values `[L]`, rising from 0 to 1 -> the ends `[L + 1]` of what each stands for."""
    middles = (values[1:] + values[:-1]) / 2
    return torch.cat([values[:1], middles, values[-1:]])


def quantiles(probabilities: Tensor, values: Tensor, shares: Sequence[float]) -> Tensor:
    """Distributions `[..., L]` over values `[L]` -> settings `[..., S]` below which those shares lie."""
    ends = edges(values).to(probabilities)
    total = torch.nn.functional.pad(probabilities.cumsum(dim=-1), (1, 0))
    total = total / total[..., -1:].clamp(min=1e-12)
    wanted = torch.tensor(shares, dtype=total.dtype, device=total.device).expand(*total.shape[:-1], -1)
    right = torch.searchsorted(total.contiguous(), wanted.contiguous()).clamp(1, total.shape[-1] - 1)
    low, high = total.gather(-1, right - 1), total.gather(-1, right)
    part = ((wanted - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return ends[right - 1] + part * (ends[right] - ends[right - 1])


def cumulative(probabilities: Tensor, values: Tensor, settings: Tensor) -> Tensor:
    """Probability `[...]` that distributions `[..., L]` put below settings `[...]`."""
    ends = edges(values).to(probabilities)
    place = torch.searchsorted(ends, settings.to(ends).contiguous()).clamp(1, len(values)) - 1
    total = torch.nn.functional.pad(probabilities.cumsum(dim=-1), (1, 0))
    part = (settings.to(ends) - ends[place]) / (ends[place + 1] - ends[place])
    here = probabilities.gather(-1, place[..., None])[..., 0]
    return total.gather(-1, place[..., None])[..., 0] + part.clamp(0, 1) * here


def true_entries(controller: Controller, settings: Tensor) -> Tensor:
    """Settings `[B, P]` -> index `[B, P]` of the entry that stands for each."""
    distance = (settings[..., None].to(controller.values) - controller.values).abs()
    return distance.masked_fill(~controller.mask, torch.inf).argmin(dim=-1)


def likelihood(controller: Controller, logits: Tensor, settings: Tensor, temperature: Tensor) -> Tensor:
    """Mean negative log-likelihood `[P]` of the settings `[B, P]`, in nats."""
    scaled = logits.double() / temperature.to(logits)[:, None].double()
    chosen = true_entries(controller, settings)[..., None]
    return -scaled.log_softmax(dim=-1).gather(-1, chosen)[..., 0].mean(dim=0)


@torch.no_grad()
def fit_temperature(
    controller: Controller, logits: Tensor, settings: Tensor, *, shared: bool = False
) -> Tensor:
    """Temperatures `[P]` that make the settings likeliest, between 0.1 and 10.

    The likelihood is concave in 1/T, so a golden-section search on the logarithm of T finds its one top.

    Args:
        logits: `[B, P, L]`. settings: those that were used, `[B, P]` on 0..1, at least 16 of them.
        shared: one temperature for all parameters.

    Raises:
        ShapeError: shapes that do not fit. UsageError: too few examples.
    """
    _check(controller, logits, settings)
    if len(settings) < LEAST:
        raise UsageError(f"{len(settings)} examples are too few to fit a temperature; {LEAST} are needed")

    def cost(log_temperature: Tensor) -> Tensor:
        each = likelihood(controller, logits, settings, log_temperature.exp())
        return each.mean().expand_as(each) if shared else each

    golden = (5**0.5 - 1) / 2
    rows = logits.new_ones(logits.shape[1], dtype=torch.float64)
    low, high = rows * np.log(COLDEST), rows * np.log(HOTTEST)
    for _ in range(40):
        a, b = high - golden * (high - low), low + golden * (high - low)
        lower = cost(a) < cost(b)
        low, high = torch.where(lower, low, a), torch.where(lower, b, high)
    return ((low + high) / 2).exp()


@dataclass(frozen=True)
class ParameterCalibration:
    """How well a parameter's distribution fits what happened.

    Attributes:
        name: of the parameter. examples: that it was measured on.
        coverage: level -> share of the examples whose setting lay in the central interval of that level;
            empty for a discrete parameter.
        error: expected calibration error on 0..1. Discrete: of the confidence, over ten ranges (Guo et al.
            2017). Continuous: mean |share of settings below the predicted q-quantile - q| over q = 0.05, 0.1,
            ... 0.95 (Kuleshov et al. 2018, "Accurate Uncertainties for Deep Learning").
        accuracy: of the likeliest value of a discrete parameter, else None.
        nll: mean negative log-likelihood, nats. temperature: that was used.
    """

    name: str
    examples: int
    coverage: dict[str, float]
    error: float
    accuracy: float | None
    nll: float
    temperature: float


@torch.no_grad()
def calibration(
    controller: Controller,
    names: Sequence[str],
    logits: Tensor,
    settings: Tensor,
    temperature: Tensor | None = None,
    levels: Sequence[float] = LEVELS,
) -> list[ParameterCalibration]:
    """Measure how far a controller's distributions can be believed.

    Args:
        names: of its P parameters. logits: `[B, P, L]` on examples that nothing was fitted to.
        settings: those that were used, `[B, P]` on 0..1. Leave out examples without the effect.
        temperature: `[P]`, 1 by default. levels: of intervals whose coverage is measured.

    Raises:
        ShapeError: shapes that do not fit, or no examples.
    """
    _check(controller, logits, settings)
    temperature = torch.ones(logits.shape[1]) if temperature is None else temperature
    probabilities = (logits.double() / temperature.to(logits)[:, None]).softmax(dim=-1).cpu()
    nll = likelihood(controller, logits, settings, temperature).tolist()
    true, settings = true_entries(controller, settings).cpu(), settings.double().cpu()
    found = []
    for p, name in enumerate(names):
        row = probabilities[:, p]
        coverage: dict[str, float] = {}
        accuracy = None
        if controller.continuous[p]:
            values = controller.values[p][controller.mask[p]].double().cpu()
            below = cumulative(row[:, : len(values)], values, settings[:, p])
            coverage = {
                f"{level:g}": float(((below - 0.5).abs() <= level / 2).double().mean()) for level in levels
            }
            shares = torch.arange(1, 20, dtype=torch.float64) / 20
            error = float(((below[:, None] <= shares).double().mean(dim=0) - shares).abs().mean())
        else:
            confidence, chosen = row.max(dim=-1)
            right = (chosen == true[:, p]).double()
            accuracy, error = float(right.mean()), _expected_error(confidence, right)
        found.append(
            ParameterCalibration(name, len(row), coverage, error, accuracy, nll[p], float(temperature[p]))
        )
    return found


def _expected_error(confidence: Tensor, right: Tensor) -> float:
    """Mean |accuracy - confidence| over ranges of confidence, by how many examples lie in each."""
    place = (confidence * BINS).long().clamp(max=BINS - 1)
    total = sum(
        float((right[place == b] - confidence[place == b]).sum().abs()) for b in place.unique().tolist()
    )
    return total / len(right)


def _check(controller: Controller, logits: Tensor, settings: Tensor) -> None:
    shape = controller.values.shape
    if logits.ndim != 3 or logits.shape[1:] != shape or settings.shape != logits.shape[:2] or not len(logits):
        raise ShapeError(
            f"logits are [B, {shape[0]}, {shape[1]}] and settings [B, {shape[0]}], B at least 1, not "
            f"{list(logits.shape)} and {list(settings.shape)}"
        )


# --- a run's ----------------------------------------------------------------------------------------------


def temperatures(run: Run) -> Tensor | None:
    """Temperatures `[P]` fitted for a run's checkpoint; None if there are none for these very weights.

    Raises:
        RunError: calibration.json is damaged, or of other parameters.
    """
    path = run.path / CALIBRATION
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        entry = kept["checkpoints"].get(run.checkpoint)
        if entry is None or entry["weights_sha256"] != run.card["weights_sha256"]:
            return None
        values = [float(entry["temperature"][p.name]) for p in run.parameters]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} is damaged ({error!r}); delete it: intervals are then not calibrated"
        ) from error
    if not all(COLDEST / 2 <= value <= HOTTEST * 2 for value in values):
        raise RunError(f"{path} is damaged: a temperature lies outside {COLDEST:g} to {HOTTEST:g}")
    return torch.tensor(values, dtype=torch.float64)


@torch.no_grad()
def batch_logits(run: Run, batch: ExampleBatch) -> tuple[Tensor, Tensor]:
    """Logits `[N, P, L]` and settings `[N, P]` of a batch's examples that have the effect."""
    rows = np.flatnonzero(batch.applied)
    logits = [
        run.controller(*(run.controller.embed(torch.from_numpy(x[i : i + 1]), run.sample_rate)
                         for x in (batch.dry, batch.reference)))
        for i in rows
    ]  # fmt: skip
    shape = (0, *run.controller.values.shape)
    return torch.cat(logits) if logits else torch.zeros(shape), torch.from_numpy(batch.settings[rows])


def calibrate_run(run: Run, batch: ExampleBatch) -> Tensor | None:
    """Fit temperatures on examples (of validation, not of a test) and keep them in the run's folder.

    Returns them, `[P]`; None, and nothing is written, if fewer than 16 examples have the effect.

    Raises:
        OutputError: the folder cannot be written.
    """
    from dafxhost.training.runs import write_file

    logits, settings = batch_logits(run, batch)
    if len(settings) < LEAST:
        return None
    found = fit_temperature(run.controller, logits, settings)
    names = [p.name for p in run.parameters]
    path = run.path / CALIBRATION
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["checkpoints"]
    except (OSError, ValueError, KeyError, TypeError):
        kept = {}  # of no use to anybody: written anew
    kept[run.checkpoint] = {
        "weights_sha256": run.card["weights_sha256"],
        "examples": len(settings),
        "temperature": dict(zip(names, found.tolist(), strict=True)),
        # On the examples it was fitted to: what it was for is seen, what it is worth is not.
        "before": [asdict(c) for c in calibration(run.controller, names, logits, settings)],
        "after": [asdict(c) for c in calibration(run.controller, names, logits, settings, found)],
    }
    write_file(path, (json.dumps({"format": 1, "checkpoints": kept}, indent=2) + "\n").encode())
    return found


@torch.no_grad()
def uncertainty(run: Run, logits: Tensor, level: float = LEVEL) -> list[ParameterUncertainty]:
    """What a run knows of each parameter, from the logits `[N, P, L]` of N pairs of excerpts of one input and
    one reference (`Run.pair_logits`): their distributions, at the run's temperatures, are averaged.

    Raises:
        UsageError: a level outside 0..1. RunError: see `temperatures`.
    """
    if not 0 < level < 1:
        raise UsageError(f"the level of an interval lies between 0 and 1, not {level}")
    fitted = temperatures(run)
    scale = torch.ones(logits.shape[1], dtype=torch.float64) if fitted is None else fitted
    probabilities = (logits.double() / scale[:, None]).softmax(dim=-1).mean(dim=0)
    controller = run.controller
    found = []
    for p, parameter in enumerate(run.parameters):
        values = controller.values[p][controller.mask[p]].double()
        row = probabilities[p, : len(values)]
        low, high, confidence = _interval(row, values, bool(controller.continuous[p]), level)
        low_text, high_text = _text(parameter, low), _text(parameter, high)
        bound = max(float(np.log(len(values))), 1e-12)
        entropy = float(-(row * row.clamp(min=1e-30).log()).sum()) / bound
        found.append(
            ParameterUncertainty(
                parameter.name, level, low, high, low_text, high_text, entropy, confidence, fitted is not None
            )
        )
    return found


def _interval(
    row: Tensor, values: Tensor, continuous: bool, level: float
) -> tuple[float, float, float | None]:
    if not continuous:
        best = int(row.argmax())
        return float(values[best]), float(values[best]), float(row[best])
    low, high = quantiles(row, values, (0.5 - level / 2, 0.5 + level / 2)).tolist()
    return low, high, None


def _text(parameter: Parameter, setting: float) -> str:
    """As the panel shows it, where that is known: an interval of "0.4 (+3 dB)" reads badly."""
    native = float(parameter.to_native(setting))
    reading = parameter.reading
    return reading.text(native) if reading else parameter.text(float(f"{native:.3g}"))
