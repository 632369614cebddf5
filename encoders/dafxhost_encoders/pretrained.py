"""The pretrained encoder: the one that comes with dafxhost, or any saved encoder, frozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from dafxhost.encoders import Encoder, load_encoder
from dafxhost.errors import RunError
from dafxhost.registry import encoder as make_encoder

SHIPPED = Path(__file__).parent / "weights" / "effect-encoder.safetensors"
"""The weights in the package; the card beside them says how they were made and what they do."""


def card() -> dict[str, Any]:
    """The card of the weights in the package: data and licences, protocol, command, figures."""
    path = SHIPPED.with_suffix(".card.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read; install dafxhost again ({error})") from error


class PretrainedEncoder(Encoder):
    """A frozen encoder from a weights file: never trained, always in eval mode.

    Without arguments it is the audio-effect encoder whose weights are in the package.

    Args:
        weights: file written by `dafxhost pretrain` or `save_encoder`; its suffix may be left out.
        encoder: name of the encoder in the file. With `weights` it is optional and checked; alone, the
            encoder is made with random weights to be filled by `load_state_dict`, which is how a run that
            holds its own copy of the weights is loaded without the file.
        options: that encoder's options; checked as `encoder` is.
        source: where the weights came from, kept for people.

    Raises:
        RunError: the file is missing, damaged, or holds another encoder than the one named.
    """

    name = "pretrained"
    from_file = True

    def __init__(
        self,
        weights: str | Path | None = None,
        encoder: str | None = None,
        options: dict[str, Any] | None = None,
        source: str = "",
    ) -> None:
        if weights is not None:
            inner = load_encoder(weights)
            _check_same(inner, weights, encoder, options)
            source = source or str(weights)
        elif encoder is not None:
            inner = make_encoder(encoder, **(options or {}))
        else:
            inner = load_encoder(SHIPPED)
            source = source or f"dafxhost's own, {SHIPPED.name}"
        while isinstance(inner, PretrainedEncoder):
            inner = inner.inner
        super().__init__(inner.embedding_size, inner.sample_rate, normalise=inner.normalise)
        self.inner: Encoder = inner
        self.source = source
        self.freeze()

    def config(self) -> dict[str, Any]:
        """Without the file's path as `weights`: a saved copy of this encoder does not need that file."""
        return {"encoder": self.inner.name, "options": self.inner.config(), "source": self.source}

    def prepare(self, audio: Tensor, sample_rate: int) -> Tensor:
        return self.inner.prepare(audio, sample_rate)

    def embed(self, audio: Tensor) -> Tensor:
        return self.inner.embed(audio)

    @property
    def pair_size(self) -> int:
        return self.inner.pair_size

    def pair(self, dry: Tensor, reference: Tensor) -> Tensor:
        return self.inner.pair(dry, reference)

    def train(self, mode: bool = True) -> Self:
        """Eval mode whatever is asked for: a frozen encoder gives the same embedding in training as later."""
        return super().train(False)


def _check_same(
    inner: Encoder, weights: str | Path, encoder: str | None, options: dict[str, Any] | None
) -> None:
    if encoder is not None and inner.name != encoder:
        raise RunError(f"{weights} holds the encoder {inner.name!r}, not {encoder!r}")
    have = inner.config()
    wrong = [f"{k} {have.get(k)!r}, not {v!r}" for k, v in (options or {}).items() if have.get(k) != v]
    if wrong:
        raise RunError(f"{weights} was made with another configuration: {', '.join(wrong)}")
