"""An effect under test: the executors that render it, and the audio it is given."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import RenderError, UsageError
from dafxhost.execution.executor import Executor
from dafxhost.testing.report import Failed

RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
"""Hz."""


class EffectSession:
    """Renders one effect for its checks, through the public `Executor` only: no plugin is loaded here.

    Args:
        effect: what is checked.
        rates: sample rates to try, Hz. rate: of all other checks.
        longest: seconds of the longest clip.
        seconds: of an ordinary clip. Longer clips show more (slow modulation) and take longer.
        neutral: native values by name with which the effect passes an impulse on. With them it must come out
            where it went in; without, the defaults are tried and an impulse that comes late says nothing.
        deadline: seconds a single render may take.
        seed: of the random settings.
    """

    kind = "effect"

    def __init__(
        self,
        effect: Effect,
        *,
        rates: Sequence[int] = RATES,
        rate: int = 44100,
        longest: float = 60.0,
        seconds: float = 0.25,
        neutral: Mapping[str, Any] | None = None,
        deadline: float = 60.0,
        seed: int = 1,
    ) -> None:
        if not rates:
            raise UsageError("rates is empty; name at least one sample rate in Hz")
        if not (longest > 0 and seconds >= 0.05):
            raise UsageError(f"longest ({longest} s) must be positive and seconds ({seconds}) 0.05 or more")
        self.effect = effect
        self.rates, self.rate, self.longest, self.seconds = tuple(rates), rate, longest, seconds
        self.neutral = None if neutral is None else effect.setting(**neutral)
        self.deadline, self.seed = deadline, seed
        self.name, self.provider = effect.name, effect.provider.name
        self.default = effect.default_setting()
        self._folder = tempfile.TemporaryDirectory(prefix="dafxhost-testing-")
        self._shared: Executor | None = None

    def open(self, workers: int = 1, *, verify: Any = "spot") -> Executor:
        """A new executor. Inputs of what fails are saved in a folder that goes with the session."""
        return Executor(
            self.effect,
            workers=workers,
            deadline=self.deadline,
            verify=verify,
            failure_dir=self._folder.name,
        )

    @property
    def executor(self) -> Executor:
        """Shared by checks that do not care what was rendered before. Reads values back, renders twice."""
        if self._shared is None:
            self._shared = self.open(2, verify="all")
        return self._shared

    def settings(self, count: int) -> np.ndarray:
        """Random settings `[count, P]`, the same ones for each session of a seed."""
        return np.random.default_rng(self.seed).random((count, len(self.effect.parameters)))

    def clip(self, channels: int = 1, seconds: float | None = None, rate: int | None = None) -> np.ndarray:
        """`[1, C, T]` float32: see `signal`."""
        rate = rate or self.rate
        return signal(channels, round((self.seconds if seconds is None else seconds) * rate), rate)

    def render(self, audio: np.ndarray, settings: np.ndarray, rate: int | None = None) -> np.ndarray:
        """`[1, C, T]` and `[K, P]` -> `[K, C, T]` by the shared executor. Raises as `render_by` does."""
        return self.render_by(self.executor, audio, settings, rate)

    def render_by(
        self, executor: Executor, audio: np.ndarray, settings: np.ndarray, rate: int | None = None
    ) -> np.ndarray:
        """`[1, C, T]` and `[K, P]` -> `[K, C, T]`. Raises Failed, saying with which setting and why;
        PluginError.
        """
        with failing():
            return executor.render(audio, np.asarray(settings)[None], rate or self.rate)[0]

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
        self._folder.cleanup()

    def __enter__(self) -> EffectSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """RenderError -> Failed, without the file of its input: that one goes with the session."""
    try:
        yield
    except RenderError as error:
        first = error.failures[0]
        setting = ", ".join(f"{v:.4g}" for v in first.setting)
        several = f"{len(error.failures)} renders failed, the first" if len(error.failures) > 1 else "failed"
        raise Failed(f"{several} with setting ({setting}): {first.reason}") from None


def signal(channels: int, samples: int, rate: int) -> np.ndarray:
    """`[1, C, T]` float32, peak about 0.5: noise and gliding tones in bursts, no two channels alike."""
    rng = np.random.default_rng(channels)
    time = np.arange(samples) / rate
    noise = 0.08 * rng.standard_normal((channels, samples))
    glide = [np.sin(2 * np.pi * (60 + 25 * c + 500 * time) * time) for c in range(channels)]
    open_gate = (time % 0.1) < 0.06
    return ((noise + 0.25 * np.stack(glide)) * open_gate)[None].astype(np.float32)


def decibel(value: float) -> str:
    """An amplitude in words."""
    return f"{20 * np.log10(value):.1f} dBFS" if value > 0 else "silence"


def largest(values: np.ndarray) -> float:
    """Largest magnitude; 0 of none."""
    return float(np.abs(values).max()) if values.size else 0.0


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference between two renders, as float64; 0 only if all samples are the same."""
    if np.array_equal(one, other):
        return 0.0
    return float(np.abs(one.astype(np.float64) - other).max())
