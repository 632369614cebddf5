"""Audio encoders: the interface, and their weights on disk.

An encoder turns audio of any length, rate and channel count into one embedding a clip. What is common to all
of them (checks, channel averaging, resampling, level, padding) lives in `Encoder.forward`; an encoder itself
only writes `embed`, which sees mono audio at its own rate.

Weights are a safetensors file with a JSON file of the same stem beside it. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torchaudio
from safetensors import SafetensorError
from torch import Tensor, nn
from torchaudio.functional import resample

import dafxhost
from dafxhost.errors import OutputError, RegistryError, RunError, ShapeError, UnknownNameError, UsageError
from dafxhost.registry import encoder as make_encoder

FORMAT = 1
"""Version of the JSON beside the weights."""

PEAK = 10 ** (-12 / 20)
"""Peak to which encoders that normalise bring their input: -12 dBFS, the level of the training protocol."""

_SILENCE = 1e-7
"""Peak (-140 dBFS) below which the gain no longer grows, so that silence stays silence."""

RATES = (1_000, 768_000)
"""Sample rates accepted at the input, Hz."""


class Encoder(nn.Module, ABC):
    """Audio `[B, C, T]` at any sample rate -> embedding `[B, D]`.

    A subclass sets `name`, calls `super().__init__(...)` and writes `embed` and `config`. In eval mode equal
    audio gives equal embeddings, and a clip's embedding does not depend on the others of its batch (so no
    batch normalisation, and nothing sampled).

    Args:
        embedding_size: D.
        sample_rate: the rate in Hz at which `embed` works; audio at another rate is resampled to it.
        minimum_samples: shorter clips (counted at the encoder's rate) are padded with zeros at the end.
        normalise: bring each clip to a peak of -12 dBFS first, so that the embedding does not depend on the
            level. Without it level is part of what is encoded.

    Attributes:
        name: what the registry calls it; `load_encoder` finds the class by it.
        stereo: whether it tells left from right: `embed` then sees `[B, 2, T]`.
        peak_tolerances: of an encoder with `peaks`, by how much the positions of each family may be off.
        cepstrum_size: of an encoder with `cepstrum`, L.
        from_file: its factory takes `weights=FILE`, a file that only it can read (see `pretrained`).
    """

    name: str = ""
    stereo: bool = False
    from_file: bool = False
    peak_tolerances: tuple[float, ...] = ()
    cepstrum_size: int = 0
    embedding_size: int
    sample_rate: int

    def __init__(
        self, embedding_size: int, sample_rate: int, *, minimum_samples: int = 1, normalise: bool = True
    ) -> None:
        super().__init__()
        check_option("embedding_size", embedding_size, 1)
        check_option("sample_rate", sample_rate, *RATES)
        self.embedding_size = embedding_size
        self.sample_rate = sample_rate
        self.minimum_samples = minimum_samples
        self.normalise = normalise

    @abstractmethod
    def embed(self, audio: Tensor) -> Tensor:
        """Mono audio `[B, T]`, float32, at `self.sample_rate`, T >= minimum_samples -> `[B, D]`.

        With `stereo` it is `[B, 2, T]`; mono audio comes with both alike, and of more than two channels
        both are the mean.
        """

    @property
    def described(self) -> int:
        """How many of the D values describe a clip, the first ones; others are only for `peaks` and
        `cepstrum`.
        """
        return self.embedding_size

    def peaks(self, embedding: Tensor) -> Tensor:
        """Embeddings `[B, D]` -> `[B, F, K, 2]`: positions and heights of K peaks in each of F families.

        Positions follow from a setting where an effect has anything to place, echoes or carriers. Heights are
        in deviations of what surrounds a peak. See `dafxhost.training.landmarks`.
        """
        raise NotImplementedError(f"encoder {self.name!r} has no peaks")

    def cepstrum(self, embedding: Tensor) -> Tensor:
        """Embeddings `[B, D]` -> `[B, L]`: mean cepstra, to which a steady filter adds the same whatever is
        played. See `dafxhost.training.signatures`.
        """
        raise NotImplementedError(f"encoder {self.name!r} has no cepstrum")

    def cepstrum_of(self, audio: Tensor) -> Tensor:
        """Audio `[B, T]` at the encoder's rate -> what `cepstrum` finds in its embedding, `[B, L]`."""
        raise NotImplementedError(f"encoder {self.name!r} has no cepstrum")

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able options that make the same encoder again (without its weights)."""

    def forward(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Embed clips.

        Args:
            audio: `[B, C, T]`, floating point, any number of channels (averaged) and at least one sample. It
                is moved to the encoder's device.
            sample_rate: of `audio`, Hz.

        Returns:
            `[B, D]` on the encoder's device.

        Raises:
            ShapeError: not three axes, or an empty one. UsageError: integers, NaN or infinite samples, or a
                sample rate outside `RATES`.
        """
        return self.embed(self.prepare(audio, sample_rate))

    def prepare(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Audio `[B, C, T]` at `sample_rate` -> what `embed` takes: `[B, T']`. Raises as `forward` does."""
        check_audio(audio, sample_rate)
        audio = audio.to(device=_device(self), dtype=torch.float32)
        if not self.stereo:
            audio = audio.mean(dim=1)
        elif audio.shape[1] != 2:
            audio = audio.mean(dim=1, keepdim=True).repeat(1, 2, 1)
        if sample_rate != self.sample_rate:
            # The resampler's filter has a row for each phase of the reduced ratio: odd pairs of rates (44101
            # to 24000) would need gigabytes. The nearest ratio of small numbers is at most about 0.1 % off,
            # and exact for the usual rates.
            ratio = Fraction(int(sample_rate), self.sample_rate).limit_denominator(1000)
            audio = resample(audio, ratio.numerator, ratio.denominator)
        if self.normalise:
            peak = audio.abs().amax(dim=(1, 2) if self.stereo else 1, keepdim=True)
            audio = audio * (PEAK / peak.clamp(min=_SILENCE))
        return nn.functional.pad(audio, (0, max(0, self.minimum_samples - audio.shape[-1])))

    @property
    def pair_size(self) -> int:
        """Values that `pair` gives; 0 where there is none, and the controller joins embeddings itself."""
        return 0

    def pair(self, dry: Tensor, reference: Tensor) -> Tensor:
        """Embeddings `[B, D]` of an input and of a reference -> what the controller sees, `[B, pair_size]`.

        For encoders that describe a pair of clips; standardised as they like, the controller does not.
        """
        raise NotImplementedError(f"{self.name} embeds single clips only")

    def fit_pairs(self, dry: Tensor, reference: Tensor, targets: Tensor) -> None:
        """Called once before training, for `pair`: embeddings `[N, D]` of inputs and references, and what the
        controller is to tell of them, `[N, K]` (distributions over the values of all parameters).
        """

    @property
    def frozen(self) -> bool:
        """True if nothing in it is trained."""
        return not any(p.requires_grad for p in self.parameters())

    def freeze(self) -> None:
        """Stop training it: no gradients to its weights, eval mode."""
        self.requires_grad_(False)
        self.eval()

    def save(self, path: str | Path) -> Path:
        """`save_encoder(self, path)`."""
        return save_encoder(self, path)


def check_option(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise UsageError unless `value` is an integer of low..high."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high and value > high):
        allowed = f"{low}..{high}" if high else f"{low} or more"
        raise UsageError(f"encoder option {name} must be an integer of {allowed}, not {value!r}")


def check_audio(audio: Tensor, sample_rate: int) -> None:
    """Raise ShapeError or UsageError unless `audio` is `[B, C, T]`, not empty, floating point and finite."""
    if not isinstance(audio, Tensor):
        raise UsageError(f"an encoder takes a torch tensor [B, C, T], not {type(audio).__name__}")
    if audio.ndim != 3:
        raise ShapeError(f"an encoder takes audio [B, C, T], not {list(audio.shape)}")
    if audio.numel() == 0:
        raise ShapeError(f"audio {list(audio.shape)} is empty: an encoder needs at least one sample")
    if not audio.is_floating_point():
        raise UsageError(f"an encoder takes floating-point audio on -1..1, not {audio.dtype}")
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, Integral):
        raise UsageError(f"a sample rate is a whole number of Hz, not {sample_rate!r}")
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise UsageError(f"sample rate {sample_rate} Hz lies outside {RATES[0]}..{RATES[1]} Hz")
    finite = torch.isfinite(audio).all(dim=-1).all(dim=-1)
    if not bool(finite.all()):
        rows = torch.nonzero(~finite).flatten().tolist()
        raise UsageError(f"audio holds NaN or infinite samples in clips {', '.join(map(str, rows[:8]))}")


def weights_paths(path: str | Path) -> tuple[Path, Path]:
    """(weights, JSON) of an encoder kept at `path`; the suffix .safetensors may be left out."""
    path = Path(path)
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    return path, path.with_suffix(".json")


def save_encoder(encoder: Encoder, path: str | Path) -> Path:
    """Write weights to `path` (.safetensors) and what they belong to beside it (.json).

    Both are written beside their place and renamed; the JSON holds the weights' hash, so that a pair that
    does not belong together (a kill between the two renames) is noticed when it is loaded.

    Returns:
        The path of the weights.

    Raises:
        OutputError: the files cannot be written. UsageError: the encoder has no registry name.
    """
    if not encoder.name:
        raise UsageError(f"{type(encoder).__name__} has no registry name, so it could not be loaded again")
    weights, description = weights_paths(path)
    data = safetensors.torch.save(
        {k: v.detach().cpu().contiguous().clone() for k, v in encoder.state_dict().items()}
    )
    text = json.dumps(
        {
            "format": FORMAT,
            "encoder": encoder.name,
            "config": encoder.config(),
            "sample_rate": encoder.sample_rate,
            "embedding_size": encoder.embedding_size,
            "weights_sha256": hashlib.sha256(data).hexdigest(),
            "versions": {
                "dafxhost": dafxhost.__version__,
                "torch": torch.__version__,
                "torchaudio": torchaudio.__version__,
            },
        },
        indent=2,
    )
    _write(weights, data)
    _write(description, text.encode() + b"\n")
    return weights


def read_description(path: str | Path) -> dict[str, Any]:
    """The JSON beside an encoder's weights, checked for its fields.

    Raises:
        RunError: it is missing, is not JSON, or not what `save_encoder` writes.
    """
    weights, description = weights_paths(path)
    try:
        about = json.loads(description.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        missing = "is missing" if weights.exists() else f"and {weights} are missing"
        raise RunError(f"no encoder at {path}: {description} {missing}") from error
    except OSError as error:
        raise RunError(f"cannot read {description}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{description} is damaged: it is not JSON") from error
    fields = {
        "encoder": str,
        "config": dict,
        "sample_rate": int,
        "embedding_size": int,
        "weights_sha256": str,
    }
    if not isinstance(about, dict) or any(not isinstance(about.get(k), t) for k, t in fields.items()):
        raise RunError(f"{description} does not describe an encoder; it needs {', '.join(fields)}")
    if about.get("format") != FORMAT:
        raise RunError(
            f"{description} has format {about.get('format')!r}, this dafxhost reads {FORMAT}; "
            "use the version that wrote it"
        )
    return about


def load_encoder(path: str | Path) -> Encoder:
    """The encoder saved at `path`, on the CPU and in eval mode.

    Raises:
        RunError: a file is missing or damaged, or weights and description do not fit each other.
        UnknownNameError: no installed package offers that encoder.
    """
    about = read_description(path)
    tensors = _read_tensors(path, about["weights_sha256"])
    weights, description = weights_paths(path)
    try:
        encoder = make_encoder(about["encoder"], **about["config"])
    except UnknownNameError:
        raise
    except (RegistryError, UsageError) as error:
        raise RunError(
            f"{description} asks for an encoder {about['encoder']!r} that cannot be made: {error}"
        ) from error
    for key in ("sample_rate", "embedding_size"):
        if getattr(encoder, key) != about[key]:
            raise RunError(
                f"{description} says {key} {about[key]}, but its config gives {getattr(encoder, key)}: "
                "it was changed or made by another version"
            )
    load_weights(encoder, tensors, str(weights))
    return encoder.eval()


def load_weights(encoder: Encoder, tensors: dict[str, Tensor], where: str) -> None:
    """Put `tensors` into `encoder`. Raises RunError naming the first misfit."""
    expected = encoder.state_dict()
    problems = [f"{k} is missing" for k in expected if k not in tensors]
    problems += [f"{k} is unknown" for k in tensors if k not in expected]
    problems += [
        f"{k} has shape {list(tensors[k].shape)}, not {list(v.shape)}"
        for k, v in expected.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    problems += [
        f"{k} holds NaN"
        for k, v in tensors.items()
        if v.is_floating_point() and not bool(torch.isfinite(v).all())
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RunError(f"{where} does not fit encoder {encoder.name!r}: {problems[0]}{more}")
    encoder.load_state_dict(tensors)


def _read_tensors(path: str | Path, sha256: str) -> dict[str, Tensor]:
    weights, description = weights_paths(path)
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the encoder weights {weights}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RunError(f"{weights} is damaged, or not the file that {description} was written for")
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise RunError(f"{weights} is no safetensors file: {error}") from error


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True) if beside.parent.is_dir() else None
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _device(module: nn.Module) -> torch.device:
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
