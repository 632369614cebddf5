"""Cnn14, the convolutional network of PANNs (Kong 2020), as an encoder; and AFx-Rep, which is built on it.

Written from table 1 of the paper (arXiv:1912.10211) and its section 4; the weights' names are those of the
published checkpoints, so that these fit. For AFx-Rep (Steinmetz 2024, arXiv:2410.21233) channels,
normalisation and heads are facts read in its public repository (csteinmetz1/st-ito, Apache-2.0). No code is
taken from either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from dafxhost.encoders import Encoder, check_option, load_weights
from dafxhost.errors import RunError, UsageError
from dafxhost_encoders.checkpoints.reading import read_tensors, without_prefix

BLOCKS = 6
SMALLEST = 2 ** (BLOCKS - 1)
"""Frames and mel bands that the five halvings leave something of."""
LONGEST = 60
"""Seconds; longer clips are cut into equal pieces, whose embeddings are averaged."""


class Block(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, normalised: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs) if normalised else nn.Identity()
        self.bn2 = nn.BatchNorm2d(outputs) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()


class LogMel(nn.Module):
    """`[B, T]` -> power in mel bands in decibels, `[B, 1, frames, mels]`; Slaney's mel scale and area."""

    def __init__(self, sample_rate: int, n_fft: int, hop: int, mels: int, low: float, high: float) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        filters = melscale_fbanks(
            n_fft // 2 + 1, low, high, mels, sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("melW", filters)

    def forward(self, audio: Tensor) -> Tensor:
        window = self.get_buffer("window")
        spectrum = torch.stft(audio, self.n_fft, self.hop, window=window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power.transpose(1, 2) @ self.get_buffer("melW")
        return 10.0 * mel.clamp(min=1e-10).log10().unsqueeze(1)


class Cnn14Trunk(nn.Module):
    """Mono audio `[N, T]` -> `[N, channels[-1]]`: six blocks, mean and maximum over time.

    Args:
        structure: sample_rate, n_fft, hop, mels, low and high (Hz of the mel bands), channels (6 numbers),
            normalised (batch normalisation in the blocks), input_norm ("batchnorm", of each mel band, or
            "minmax": -80..40 dB to -1..1).
    """

    def __init__(self, structure: Mapping[str, Any]) -> None:
        super().__init__()
        s = structure
        self.input_norm = s["input_norm"]
        self.logmel_extractor = LogMel(s["sample_rate"], s["n_fft"], s["hop"], s["mels"], s["low"], s["high"])
        self.bn0 = nn.BatchNorm2d(s["mels"])
        inputs = [1, *s["channels"]]
        for k in range(BLOCKS):
            self.add_module(f"conv_block{k + 1}", Block(inputs[k], inputs[k + 1], s["normalised"]))

    def forward(self, audio: Tensor) -> Tensor:
        x = self.logmel_extractor(audio)
        if self.input_norm == "batchnorm":
            x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
        else:
            x = (x.clamp(-80.0, 40.0) + 80.0) / 60.0 - 1.0
        for k in range(BLOCKS):
            x = self.get_submodule(f"conv_block{k + 1}")(x)
            x = nn.functional.avg_pool2d(x, 2) if k < BLOCKS - 1 else x
        x = x.mean(dim=3)
        return x.amax(dim=2) + x.mean(dim=2)


class _Cnn14Encoder(Encoder):
    """What the two have in common: a trunk whose structure is read off the checkpoint, frozen."""

    from_file = True
    prefix = ""
    heads: tuple[str, ...] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self, weights: str | Path | None = None, structure: Mapping[str, Any] | None = None, **changes: Any
    ) -> None:
        if (weights is None) == (structure is None):
            raise UsageError(
                f"the encoder {self.name} needs its checkpoint: --encoder {self.name} "
                "--encoder-weights FILE, or weights=FILE"
            )
        tensors = None if weights is None else without_prefix(read_tensors(weights), self.prefix)
        if tensors is not None:
            structure = {**self._structure(tensors, str(weights)), **changes}
        self.structure = dict(structure or {})
        self._check(self.structure)
        s = self.structure
        size = len(self.heads) * s["size"]
        super().__init__(size, s["sample_rate"], minimum_samples=self._minimum(s), normalise=True)
        self.trunk = Cnn14Trunk(s)
        for head in self.heads:
            self.add_module(head, nn.Linear(s["channels"][-1], s["size"]))
        if tensors is not None:
            self._fill(tensors, str(weights))
        self.freeze()

    def config(self) -> dict[str, Any]:
        """The network's structure: a saved copy does not need the checkpoint."""
        return {"structure": {k: list(v) if isinstance(v, tuple) else v for k, v in self.structure.items()}}

    def train(self, mode: bool = True) -> _Cnn14Encoder:
        """Eval mode whatever is asked for, as it is frozen."""
        return super().train(False)

    def _minimum(self, structure: Mapping[str, Any]) -> int:
        return max(SMALLEST * structure["hop"], structure["n_fft"])

    def _structure(self, tensors: Mapping[str, Tensor], where: str) -> dict[str, Any]:
        names = ["bn0.weight", *(f"conv_block{k + 1}.conv1.weight" for k in range(BLOCKS))]
        names += [f"{head}.weight" for head in self.heads]
        missing = [name for name in names if name not in tensors]
        if missing:
            raise RunError(f"{where} is no checkpoint of {self.name}: it has no tensor {missing[0]}")
        channels = [int(tensors[name].shape[0]) for name in names[1 : 1 + BLOCKS]]
        found = dict(self.defaults)
        filters = tensors.get("logmel_extractor.melW")
        if filters is not None:
            found["n_fft"] = 2 * (int(filters.shape[0]) - 1)
        return {
            **found,
            "mels": int(tensors["bn0.weight"].shape[0]),
            "channels": channels,
            "normalised": "conv_block1.bn1.weight" in tensors,
            "size": int(tensors[f"{self.heads[0]}.weight"].shape[0]),
        }

    def _check(self, s: Mapping[str, Any]) -> None:
        for key, low in (("sample_rate", 1000), ("n_fft", 64), ("hop", 1), ("mels", SMALLEST), ("size", 1)):
            check_option(key, s.get(key, 0), low)
        if s.get("input_norm") not in ("batchnorm", "minmax"):
            raise UsageError(f"encoder option input_norm is batchnorm or minmax, not {s.get('input_norm')!r}")
        channels = s.get("channels")
        if not isinstance(channels, Sequence) or len(channels) != BLOCKS:
            raise UsageError(f"encoder option channels must be {BLOCKS} numbers, not {channels!r}")

    def _fill(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Put a checkpoint's tensors in; those of other heads, and of the transform, are left out."""
        mine = {
            name if name.split(".")[0] in self.heads else f"trunk.{name}": t for name, t in tensors.items()
        }
        expected = self.state_dict()
        # Filters are the same in every checkpoint of one structure; some leave them out.
        mine.setdefault("trunk.logmel_extractor.melW", expected["trunk.logmel_extractor.melW"])
        load_weights(self, {name: t for name, t in mine.items() if name in expected}, where)

    def _pieces(self, audio: Tensor) -> list[Tensor]:
        count = math.ceil(audio.shape[-1] / (LONGEST * self.sample_rate))
        length = audio.shape[-1] // count
        return [audio[..., i * length : (i + 1) * length] for i in range(count)]


class PannsCnn14(_Cnn14Encoder):
    """PANNs' Cnn14 from one of its checkpoints (Cnn14_mAP=0.431.pth, Cnn14_16k, Cnn14_8k): its embedding.

    Frozen. Channels are averaged. The checkpoints were trained on recordings as they are, so clips keep their
    proportions: only the peak is brought to full scale.

    Args:
        weights: the checkpoint. structure: of the network, in place of it (random weights, to be filled).
        changes: parts of the structure that the tensors do not tell: sample_rate, hop, low, high.
    """

    name = "panns-cnn14"
    heads = ("fc1",)
    defaults: ClassVar[Mapping[str, Any]] = {
        "sample_rate": 32_000,
        "n_fft": 1024,
        "hop": 320,
        "low": 50.0,
        "high": 14_000.0,
        "input_norm": "batchnorm",
    }

    def _structure(self, tensors: Mapping[str, Tensor], where: str) -> dict[str, Any]:
        found = super()._structure(tensors, where)
        # The windows are 32 ms and hops 10 ms at 32, 16 and 8 kHz alike.
        found["sample_rate"], found["hop"] = 125 * found["n_fft"] // 4, 5 * found["n_fft"] // 16
        found["high"] = min(14_000.0, found["sample_rate"] / 2)
        return found

    def embed(self, audio: Tensor) -> Tensor:
        audio = audio / audio.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8)
        head = self.get_submodule("fc1")
        return torch.stack([head(self.trunk(piece)).relu() for piece in self._pieces(audio)]).mean(dim=0)


class AfxRep(_Cnn14Encoder):
    """AFx-Rep from its checkpoint (afx-rep.ckpt): embeddings of mid and side, each of length 1, joined.

    Frozen. Sees two channels. Mid and side are (left + right) / 2 and (left - right) / 2 after the peak of
    both was brought to full scale. A clip whose channels are the same has no side: its mid stands for both.

    Args:
        weights: the checkpoint. structure: of the network, in place of it (random weights, to be filled).
        changes: parts of the structure that the tensors do not tell: sample_rate, hop, low, high, input_norm.
    """

    name = "afx-rep"
    stereo = True
    prefix = "encoder."
    heads = ("fc_mid", "fc_side")
    defaults: ClassVar[Mapping[str, Any]] = {
        "sample_rate": 48_000,
        "n_fft": 2048,
        "hop": 1024,
        "low": 20.0,
        "high": 20_000.0,
        "input_norm": "minmax",
    }

    def embed(self, audio: Tensor) -> Tensor:
        audio = audio / audio.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-8)
        one_sided = (audio[:, 0] == audio[:, 1]).all(dim=-1, keepdim=True)
        pieces = torch.stack([self._piece(piece, one_sided) for piece in self._pieces(audio)])
        return nn.functional.normalize(pieces.mean(dim=0), dim=-1).flatten(1)

    def _piece(self, audio: Tensor, one_sided: Tensor) -> Tensor:
        """`[B, 2, T]` -> mid and side `[B, 2, D]`."""
        left, right = audio.unbind(dim=1)
        hidden = self.trunk(torch.cat([(left + right) / 2, (left - right) / 2]))
        mid, side = hidden.chunk(2)
        mid, side = self.get_submodule("fc_mid")(mid), self.get_submodule("fc_side")(side)
        both = torch.stack([mid, torch.where(one_sided, mid, side)], dim=1)
        return nn.functional.normalize(both, dim=-1)
