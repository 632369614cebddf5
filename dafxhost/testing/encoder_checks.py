"""The conformance checks of encoders. Each takes a session, returns a remark, or raises Failed or Skipped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dafxhost.encoders import Encoder, load_encoder, save_encoder
from dafxhost.errors import DafxhostError, UsageError
from dafxhost.registry import encoder as registered
from dafxhost.testing.report import Failed, Skipped
from dafxhost.testing.session import RATES, signal

TOLERATED = 1e-4  # of the embedding's size: a batch may be added up in another order than a single clip


@dataclass
class EncoderSession:
    """An encoder in eval mode. `named` says whether the registry knows it by its name."""

    encoder: Encoder
    named: bool
    kind: str = "encoder"
    provider: str = ""

    @property
    def name(self) -> str:
        return self.encoder.name or type(self.encoder).__name__

    def embed(self, audio: Tensor, rate: int = 44100) -> Tensor:
        with torch.no_grad():
            out = self.encoder(audio, rate)
        expected = (len(audio), self.encoder.embedding_size)
        if not isinstance(out, Tensor) or tuple(out.shape) != expected:
            raise Failed(f"an embedding has shape {list(expected)}, not {list(getattr(out, 'shape', []))}")
        if not bool(torch.isfinite(out).all()):
            raise Failed(f"audio {list(audio.shape)} at {rate} Hz gives an embedding that is not finite")
        return out

    def close(self) -> None:
        pass


def open_session(subject: Any, **options: Any) -> EncoderSession:
    """By a registered name, with the factory's options, or by a function that makes the encoder."""
    made = registered(subject, **options) if isinstance(subject, str) else subject(**options)
    if not isinstance(made, Encoder):
        raise UsageError(f"an encoder is a dafxhost.encoders.Encoder, not {type(made).__name__}")
    if isinstance(subject, str) and made.name != subject:
        raise UsageError(
            f"encoder {subject!r} has the name {made.name!r}: saved, it would not be found again"
        )
    return EncoderSession(made.eval(), isinstance(subject, str))


def _clips(count: int, samples: int = 22050, channels: int = 1, rate: int = 44100) -> Tensor:
    """`[count, C, T]`, no two alike."""
    whole = torch.from_numpy(signal(count * channels, samples, rate)[0])
    return whole.reshape(count, channels, samples)


def _same(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= TOLERATED * max(1.0, float(one.abs().max()))


def embeds(session: EncoderSession) -> str:
    """Mono and stereo give finite embeddings, and other audio another one."""
    out = session.embed(_clips(3))
    session.embed(_clips(2, channels=2))
    if any(torch.equal(out[0], row) for row in out[1:]):
        raise Failed("different clips have the same embedding")
    return f"{session.encoder.embedding_size} values"


def deterministic(session: EncoderSession) -> str:
    """In eval mode equal audio gives equal embeddings, whatever torch drew before."""
    audio = _clips(2)
    first = session.embed(audio)
    torch.rand(5)
    if not torch.equal(first, session.embed(audio)):
        raise Failed("the same audio gives another embedding the second time, in eval mode")
    return ""


def batch(session: EncoderSession) -> str:
    """A clip's embedding does not depend on the others of its batch."""
    audio = _clips(4)
    if not _same(session.embed(audio), torch.cat([session.embed(clip[None]) for clip in audio])):
        raise Failed("a clip's embedding depends on the others of its batch")
    return ""


def lengths(session: EncoderSession) -> str:
    """One sample to a minute."""
    for samples in (1, 2, 63, 2048, 5000, 60 * session.encoder.sample_rate):
        session.embed(_clips(1, samples, rate=session.encoder.sample_rate), session.encoder.sample_rate)
    return ""


def sample_rates(session: EncoderSession) -> str:
    """Every sample rate from 8 to 192 kHz."""
    for rate in RATES:
        session.embed(_clips(1, rate // 2, rate=rate), rate)
    return f"{len(RATES)} rates"


def silence(session: EncoderSession) -> str:
    """Silence has a finite embedding and finite gradients."""
    session.embed(torch.zeros(1, 1, 10_000))
    out = session.encoder(torch.zeros(1, 1, 10_000), 44100)
    if out.requires_grad:
        out.sum().backward()
        gradients = [p.grad for p in session.encoder.parameters() if p.grad is not None]
        session.encoder.zero_grad(set_to_none=True)
        if not all(bool(torch.isfinite(g).all()) for g in gradients):
            raise Failed("with silence the gradient of a weight is not finite")
    return ""


def bad_audio(session: EncoderSession) -> str:
    """What is no audio is refused with one of dafxhost's errors."""
    nan = torch.full((1, 1, 100), torch.nan)
    for what, audio in (
        ("two axes", torch.zeros(2, 100)),
        ("no samples", torch.zeros(1, 1, 0)),
        ("NaN", nan),
    ):
        try:
            session.encoder(audio, 44100)
        except DafxhostError:
            continue
        raise Failed(f"audio with {what} is not refused; leave `forward` as it is and write `embed`")
    return ""


def saved(session: EncoderSession) -> str:
    """Saved and loaded again, it gives the same embeddings."""
    if not session.named:
        raise Skipped("only an encoder that is registered can be loaded again")
    audio = _clips(2)
    with tempfile.TemporaryDirectory(prefix="dafxhost-testing-") as folder:
        again = load_encoder(save_encoder(session.encoder, Path(folder) / "weights"))
    if again.config() != session.encoder.config():
        raise Failed("after saving and loading config() is another one")
    if not torch.equal(EncoderSession(again, True).embed(audio), session.embed(audio)):
        raise Failed("after saving and loading embeddings differ: not all that matters is in the weights")
    return ""


CHECKS: dict[str, Callable[[EncoderSession], str]] = {
    "embeds": embeds,
    "deterministic": deterministic,
    "batch": batch,
    "lengths": lengths,
    "sample-rates": sample_rates,
    "silence": silence,
    "bad-audio": bad_audio,
    "saved": saved,
}
