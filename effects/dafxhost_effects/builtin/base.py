"""What the built-in mda effects share: the checks, the channel layout, the state of a fresh instance.

The plugins are stereo, compute in float32, and learn the sample rate only after their constructor: parameters
that are never changed keep the constructor's coefficients, which are those for 44.1 kHz.
Facts read in `lvz/wrapper.cpp` of mda-lv2 and checked against Debian's binaries by `benchmarks/null.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from dafxhost.errors import ParameterError, PluginError
from dafxhost.processor import Processor, RenderSpec

f32 = np.float32

CONSTRUCTOR_RATE = 44100.0
"""Hz: the sample rate that a plugin assumes until it is told."""

PIECE = 1 << 18
"""Samples processed at a time: bounds the memory."""

FLUSH = 1e-10
"""The mda plugins clear a filter whose state is below this at a block's end, against denormal numbers."""

NO_WATCH = np.zeros(0, dtype=np.intp)
"""For `Recursion.run`, where no state is to be watched."""


class MdaProcessor(Processor):
    """An mda effect of two inputs and two outputs; one channel feeds both and takes the mean of both.

    An effect says its `name` and `new_instance`, and implements `start` and `run`. Takes no options.
    """

    name: ClassVar[str]
    """As users type it, e.g. "mda-delay"; for messages."""

    new_instance: ClassVar[tuple[float, ...]]
    """The plugin values that a fresh instance believes to have, one a parameter."""

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        if options:
            raise ParameterError(
                f"the built-in {self.name} takes no options, not {', '.join(sorted(options))}"
            )
        self.spec = spec
        self._values: np.ndarray | None = None

    def prepare(self, values: np.ndarray) -> None:
        """Raises ParameterError for anything but one number on 0..1 a parameter."""
        values = np.asarray(values, dtype=np.float64)
        count = len(self.new_instance)
        if values.shape != (count,) or not ((values >= 0) & (values <= 1)).all():
            raise ParameterError(f"{self.name} takes {count} plugin values on 0..1")
        self._values = values.copy()
        single = values.astype(f32)
        untouched = bool((single == np.array(self.new_instance, dtype=f32)).all())
        self.start(single, CONSTRUCTOR_RATE if untouched else float(self.spec.sample_rate), untouched)

    @abstractmethod
    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        """Begin anew.

        Args:
            values: plugin values `[P]`, float32.
            rate: Hz, that coefficients are to be computed for.
            untouched: all values are a fresh instance's, so that the plugin keeps its constructor's
                coefficients; `rate` then is `CONSTRUCTOR_RATE`.
        """

    @abstractmethod
    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next samples: `[N]` float32 each -> `[N]` each, any float type, N from 1 to `PIECE`.

        For one channel both are the same array (`left is right`), and must not be written to.
        """

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        if self._values is None:
            raise PluginError("process called before prepare")
        # In pieces of whole blocks, so that what happens at a block's end does so where it would.
        block = self.spec.block_size
        piece = block * max(PIECE // block, 1)
        for begin in range(0, audio.shape[1], piece):
            x, y = audio[:, begin : begin + piece], out[:, begin : begin + piece]
            left = x[0]
            first, second = self.run(left, left if len(x) == 1 else x[1])
            if len(x) == 1:
                y[0] = first if second is first else (first.astype(f32) + second.astype(f32)) * f32(0.5)
            else:
                y[0], y[1] = first, second

    def read_back(self) -> np.ndarray | None:
        return None if self._values is None else self._values.copy()


def rounded_sums(start: float, step: float, count: int) -> np.ndarray:
    """`[count]` float32: start + step, + step again, ..., each sum rounded to float32 as an oscillator does.

    The rounding adds up: a slow oscillator in float32 is off its nominal frequency by per cents.
    """
    steps = np.full(count + 1, step, dtype=f32)
    steps[0] = start
    return np.add.accumulate(steps)[1:]


def varying_one_pole(drive: np.ndarray, feedback: np.ndarray, state: float) -> np.ndarray:
    """y[n] = drive[n] + feedback[n] * y[n - 1], y[-1] = `state`: `[N]` each -> `[N]`, float64.

    By doubling (Hillis and Steele, "Data parallel algorithms", 1986), which needs |feedback| <= 1; it stops
    early where the feedback has forgotten.
    """
    y = np.array(drive, dtype=np.float64)
    y[0] += feedback[0] * state
    reach, factor = 1, np.array(feedback, dtype=np.float64)
    while reach < len(y):
        y[reach:] += factor[reach:] * y[:-reach]  # the product is complete before it is added
        factor[reach:] *= factor[:-reach]
        factor[:reach] = 0.0
        reach *= 2
        if np.abs(factor[reach:]).max(initial=0.0) < 1e-20:
            break
    return y
