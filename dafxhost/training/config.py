"""What decides a training run: dataclass defaults, then a TOML file, then whatever the caller replaces.

`TrainConfig` is kept in the run as config.toml; with the same machine speed (or fixed step counts) it replays
the run. Importing this module is cheap.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dafxhost.data.pairs import KINDS as PAIRS
from dafxhost.data.setting_draws import DRAWS
from dafxhost.errors import RunError, UsageError
from dafxhost.execution.backends import KINDS
from dafxhost.loss_terms import parse_loss

SPACES = ("loss", "signal")
PRECISIONS = ("float32", "bfloat16", "float16")
CHANGES = ("speed", "mixing", "equaliser", "tilt", "gain", "polarity")
"""Names in `dafxhost.training.augmentation`, which imports SciPy."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `dafxhost.training.trainer.train`.

    Attributes:
        effect: registered name, or a chain (see `dafxhost.chains`). provider: which host serves it; "" lets
            the effect choose.
        data: folder of audio, data set or manifest; "" is the built-in synthetic corpus.
        validation_fraction: share of the files kept for choosing the best checkpoint.
        corpus_bank: pieces of the synthetic corpus. corpus_share: of the training clips that are synthetic
            though there is a folder of audio: few recordings alone are soon known by heart.
        augment: change clips, to make more of little audio. augmentations: how, in order, of speed, mixing,
            equaliser, tilt, gain, polarity. stretch_bank: pieces whose pitch and tempo are changed by
            themselves, beforehand, for half of the clips to be drawn from; 0 for none (see docs/pairs.md
            for what it costs).
        pairs: kind of examples: "ab", "two-settings" or "parallel" (see `dafxhost.data.pairs`).
        settings: how settings are drawn: "uniform", "even" or "presets" (see `dafxhost.data.setting_draws`).
            presets: folder of settings for the last; "" for the plugin's own.
        encoder, encoder_options: registered name of the audio encoder and its options.
        encoder_weights: a weights file for the encoder ("" for none); `encoder_frozen` says whether it is
            trained further.
        hidden, depth, dropout, bins: the controller's layers; `bins` is the number of values its distribution
            over a continuous parameter has; `sharpness`: how a setting is read off it (`Controller`).
        estimator: registered name of the gradient estimator, or "auto": estimator, directions and a step a
            parameter as measured for the effect (`dafxhost.estimators.choice`). directions: of SPSA,
            averaged; step: how far it moves a parameter, on 0..1; neither is used with "auto".
        space: "loss" (losses of the perturbed renders; needed where phase moves) or "signal" (differences of
            their waveforms).
        alternatives: renders an example that try another value than the likeliest of one parameter. They
            teach choices and toggles, which have no gradient, and other modes of continuous parameters.
        loss: what is trained on end to end, a sum of terms as "mr-stft + 0.5 modulation" (see
            `dafxhost.objectives`); validation and evaluation use the multi-resolution STFT in any case.
        l1_weight: of the waveforms' L1 beside the multi-resolution STFT (Grant 2023: 100).
        fft_sizes: of the loss trained on; validation and evaluation use all of Grant's.
        sample_rate: Hz. samples: T, samples in each half of an example. loss_samples: samples of the excerpt
            on which the end-to-end loss is taken (0: all of T).
        apply_probability: how often an example has the effect at all (Grant 2023: 0.9).
        proxy_clips: clips of the pool on which a proxy of the loss is learned (`dafxhost.training.proxy`),
            through which the controller is then trained for proxy_steps at a peak learning rate of
            proxy_rate, before the end-to-end phase; 0 for no such phase. proxy_epoch: steps between its
            validations.
        weight_decay: of all networks.
        supervised_batch, supervised_rate: examples a step and peak learning rate of the supervised phase.
        anchor: weight of the supervised loss kept beside the end-to-end loss (frozen encoders only).
        batch, rate: the same of the end-to-end phase. clip: largest gradient norm.
        pool: supervised examples embedded beforehand (frozen encoders only). reuse_pool: use them in the
            end-to-end phase, too, which then embeds nothing. pool_from: the pool.safetensors of another run
            of the same effect and encoder, to be used instead; keep_pool leaves it in the run at the end.
        supervised_steps, end_to_end_steps: 0 lets the budget decide; both (and `pool`) are fixed at the start
            of their phase from the measured speed.
        max_minutes: when training ends at the latest. pool_share, supervised_share: of it, for the two parts
            of the supervised phase; the rest is end to end.
        epoch_steps: end-to-end steps between validations. validation: examples in one.
        patience: validations without an improvement after which training ends; 0 never.
        seed: of every random draw. device: where the networks run ("cpu", "cuda"); plugins run on the CPU.
        precision: of the networks: "float32", "bfloat16", or with CUDA "float16". compile: let torch.compile
            work on the controller's layers (see docs/training.md for what both are worth).
        workers: worker processes; 0 is one a core. deadline: seconds one render may take.
        executor: where plugins run: "processes" (this machine) or "ray" (a cluster, see `RayExecutor`).
        track: registered names of trackers, with commas between them (see `dafxhost.tracking`); log.jsonl is
            written in any case.
    """

    effect: str = "mda-combo"
    provider: str = ""
    data: str = ""
    validation_fraction: float = 0.15
    corpus_bank: int = 200
    corpus_share: float = 0.4
    augment: bool = True
    augmentations: str = "speed, mixing, equaliser, polarity"
    stretch_bank: int = 0
    pairs: str = "ab"
    settings: str = "uniform"
    presets: str = ""
    encoder: str = "style-statistics"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    encoder_weights: str = ""
    encoder_frozen: bool = False
    hidden: int = 512
    depth: int = 3
    dropout: float = 0.1
    bins: int = 24
    sharpness: float = 0.0
    estimator: str = "spsa"
    directions: int = 2
    step: float = 0.05
    space: str = "loss"
    alternatives: int = 3
    loss: str = "mr-stft"
    l1_weight: float = 0.0
    fft_sizes: tuple[int, ...] = (32, 128, 512, 2048, 8192, 32768)
    sample_rate: int = 24000
    samples: int = 131072
    loss_samples: int = 65536
    apply_probability: float = 0.9
    proxy_clips: int = 0
    proxy_steps: int = 400
    proxy_rate: float = 5e-4
    proxy_epoch: int = 200
    weight_decay: float = 1e-2
    supervised_batch: int = 64
    supervised_rate: float = 2e-3
    anchor: float = 0.05
    batch: int = 16
    rate: float = 1.5e-4
    clip: float = 1.0
    pool: int = 0
    reuse_pool: bool = True
    pool_from: str = ""
    keep_pool: bool = False
    supervised_steps: int = 0
    end_to_end_steps: int = 0
    max_minutes: float = 8.0
    pool_share: float = 0.3
    supervised_share: float = 0.12
    epoch_steps: int = 50
    validation: int = 96
    patience: int = 0
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    compile: bool = False
    workers: int = 0
    deadline: float = 30.0
    executor: str = "processes"
    track: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fft_sizes", tuple(self.fft_sizes))
        positive = "hidden depth directions step sample_rate supervised_batch supervised_rate batch rate clip"
        positive += " max_minutes epoch_steps validation deadline proxy_rate proxy_epoch"
        natural = "alternatives anchor l1_weight loss_samples pool supervised_steps end_to_end_steps patience"
        natural += " seed workers stretch_bank proxy_clips proxy_steps weight_decay sharpness"
        for name in positive.split():
            self._check(getattr(self, name) > 0, name, "must be above 0")
        for name in natural.split():
            self._check(getattr(self, name) >= 0, name, "must be 0 or more")
        self._check(self.space in SPACES, "space", f"must be one of {', '.join(SPACES)}")
        parse_loss(self.loss)
        self._check(self.pairs in PAIRS, "pairs", f"must be one of {', '.join(PAIRS)}")
        self._check(self.settings in DRAWS, "settings", f"must be one of {', '.join(DRAWS)}")
        self._check(not self.presets or self.settings == "presets", "presets", 'needs settings = "presets"')
        wrong = [name for name in _words(self.augmentations) if name not in CHANGES]
        self._check(not wrong, "augmentations", f"must be of {', '.join(CHANGES)}")
        self._check(self.precision in PRECISIONS, "precision", f"must be one of {', '.join(PRECISIONS)}")
        self._check(self.executor in KINDS, "executor", f"must be one of {', '.join(KINDS)}")
        self._check(self.bins >= 4, "bins", "must be at least 4")
        self._check(self.samples >= 1024, "samples", "must be at least 1024")
        self._check(0 <= self.dropout < 1, "dropout", "must lie in 0..1")
        self._check(0 <= self.validation_fraction < 1, "validation_fraction", "must lie in 0..1")
        self._check(0 < self.apply_probability <= 1, "apply_probability", "must lie in 0..1, above 0")
        self._check(0 <= self.corpus_share <= 1, "corpus_share", "must lie in 0..1")
        shares = min(self.pool_share, self.supervised_share) >= 0
        self._check(
            shares and self.pool_share + self.supervised_share < 1,
            "pool_share",
            "and supervised_share must leave time for the end-to-end phase",
        )

    def _check(self, good: bool, name: str, what: str) -> None:
        if not good:
            raise UsageError(f"training option {name} = {getattr(self, name)!r}: {name} {what}")

    def replace(self, **changes: Any) -> TrainConfig:
        """A copy with some fields changed. Raises UsageError for a value out of range."""
        return from_dict({**dataclasses.asdict(self), **changes})

    def to_toml(self) -> str:
        """All fields as TOML, in order."""
        lines = []
        tables = []
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, dict):
                tables += [f"\n[{name}]"] + [f"{k} = {_toml(v)}" for k, v in value.items()] if value else []
            else:
                lines.append(f"{name} = {_toml(value)}")
        return "\n".join(lines + tables) + "\n"

    @staticmethod
    def from_toml(path: str | Path) -> TrainConfig:
        """Read a TOML file; what it does not name keeps its default.

        Raises:
            RunError: it cannot be read or is not TOML. UsageError: an unknown field or a wrong value.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise RunError(f"{path} is not TOML: {error}") from error
        return from_dict(values)


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """A config from field values by name. Raises UsageError: unknown field, wrong type, out of range."""
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UsageError(f"unknown training option {', '.join(unknown)}; there are {', '.join(fields)}")
    defaults = TrainConfig()
    return TrainConfig(**{k: _typed(k, v, getattr(defaults, k)) for k, v in values.items()})


def _typed(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of the field's default. Raises UsageError."""
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is tuple and isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
        return tuple(value)
    if wanted is str and value is None:
        return ""
    if wanted is str and isinstance(value, Path):
        return str(value)
    if type(value) is not wanted:
        raise UsageError(f"training option {name} takes {wanted.__name__}, not {value!r}")
    return value


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    raise UsageError(f"{value!r} cannot be written as TOML")
