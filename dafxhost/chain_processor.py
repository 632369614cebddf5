"""Several plugins one after the other in one worker: what renders a chain (`dafxhost.chains`).

Each link finds what it would find if it ran alone, so that a chain gives the samples of its links rendered
one after the other:

- *its time*: what a link is fed begins where the audio begins, with the latency of the links before taken
  out, and its blocks lie as they would alone;
- *its random numbers*: a state of the C library's `rand()` of its own, seeded as for a render;
- *its floating-point mode*, whatever the link before did to it.

Only behind the end of a clip they differ: a link that looks ahead sees the tail of the link before it, and
not silence.

Imported by workers: numpy and the light parts of dafxhost only.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dafxhost import processor as in_worker
from dafxhost.errors import PluginError
from dafxhost.execution.instance import (
    FloatingPoint,
    LoadError,
    OutputError,
    is_finite,
    load_processor,
    text_of,
)
from dafxhost.processor import Processor, RenderSpec

_libc = ctypes.CDLL(None)
_libc.initstate.restype = _libc.setstate.restype = ctypes.c_void_p
_libc.initstate.argtypes = [ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t]
_libc.setstate.argtypes = [ctypes.c_void_p]
RANDOM_BYTES = 128  # the size of glibc's own state: of this size, a seed gives the numbers of srand(seed)


class RandomNumbers:
    """A state of `rand()` beside the process's own."""

    def __init__(self, seed: int) -> None:
        self._seed, self._state = seed, ctypes.create_string_buffer(RANDOM_BYTES)
        self.restart()

    def restart(self) -> None:
        """As `srand(seed)`."""
        _libc.setstate(_libc.initstate(self._seed, self._state, RANDOM_BYTES))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        others = _libc.setstate(self._state)
        try:
            yield
        finally:
            _libc.setstate(others)


class Delay:
    """`[C, N]` later by a number of samples, from call to call."""

    def __init__(self, channels: int, samples: int) -> None:
        self._held = np.zeros((channels, samples), np.float32)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        joined = np.concatenate([self._held, audio], axis=1)
        out[:], self._held = joined[:, : audio.shape[1]], joined[:, audio.shape[1] :].copy()


class Link:
    """One plugin of a chain, or the audio as it is where the link is bypassed.

    Args:
        number: from 1.
        options: as `chains.link_options` makes them.
        spec: of the whole chain.
    """

    def __init__(
        self, number: int, options: Mapping[str, Any], spec: RenderSpec, floating_point: FloatingPoint
    ) -> None:
        self._number, self._o = number, options
        if spec.reset in ("reset", "state") and spec.reset not in options["resets"]:
            # A chain is reset as cheaply as each of its links can be.
            spec = replace(spec, reset="fresh")
        self._spec = spec
        self._values = np.zeros(options["parameters"])
        for position, value, _ in options["fixed"]:
            self._values[position] = value
        self._random = RandomNumbers(spec.seed)
        self._floating_point = floating_point
        self._room = np.zeros((spec.channels, 0), np.float32)
        self.bypassed = False
        self.latency = 0
        with self._at_work():
            self._processor: Processor = load_processor(options["processor"], options["options"], spec)

    @property
    def taken(self) -> int:
        """Entries of the chain's plugin values that are this link's."""
        return len(self._o["free"]) + self._o["bypass"]

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """This link is to blame for what happens now.

        Raises:
            PluginError, OutputError: what it raised, with the link's name before it.
        """
        in_worker.enter_part(self._number)
        self._floating_point.restore(self._spec.flush_denormals)
        try:
            with self._random.in_use():
                yield
        except OutputError as error:
            raise OutputError(f"{self._o['part']} {error}") from error
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, LoadError) else text_of(error)
            raise PluginError(f"{self._o['part']}: {reason}") from error
        in_worker.enter_part(0)

    def prepare(self, values: np.ndarray) -> None:
        """Take this link's share of the chain's plugin values `[taken]`, and begin anew."""
        self._values[self._o["free"]] = values[: len(self._o["free"])]
        self.bypassed = bool(self._o["bypass"] and values[-1] >= 0.5)
        self._random.restart()
        with self._at_work():
            # A bypassed one, too: its latency may depend on its values.
            self._processor.prepare(self._values)
        self.latency = max(0, int(self._processor.latency))
        self._delay = Delay(self._spec.channels, self.latency)

    def align(self, last: bool) -> int:
        """Begin to pass audio on without this link's latency; returns by how many samples that is later.

        A link that has others behind it waits for whole blocks, so that those get whole blocks, too.
        """
        block = self._spec.block_size
        wait = self.latency if last else -(-self.latency // block) * block
        self._to_drop, self._to_wait = self.latency, wait
        self._queue = np.zeros((self._spec.channels, 0), np.float32)
        return wait

    def process(self, audio: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """`[C, N]` -> `[C, N]`, in `out` if that is given, and later by the latency."""
        if self.bypassed and not self.latency and out is None:
            return audio
        wet = self._scratch(audio.shape[1]) if out is None else out
        if self.bypassed:
            self._delay.process(audio, wet)
            return wet
        if out is None:
            # What the plugin leaves unwritten shall not pass for its output.
            wet[:, :: self._spec.block_size] = wet[:, -1] = np.nan
        with self._at_work():
            self._processor.process(audio, wet)
            if not is_finite(wet):
                raise OutputError("returned NaN/Inf")
        return wet

    def aligned(self, wet: np.ndarray) -> np.ndarray:
        """What of the link's output so far is now to be passed on, `[C, M]`, M from 0."""
        if not self._to_wait and not self._queue.shape[1]:
            return wet
        length = wet.shape[1]
        drop = min(self._to_drop, length)
        wait = min(self._to_wait, length)
        self._to_drop, self._to_wait = self._to_drop - drop, self._to_wait - wait
        joined = np.concatenate([self._queue, wet[:, drop:]], axis=1)
        give = length - wait
        self._queue = joined[:, give:].copy()
        return np.ascontiguousarray(joined[:, :give])

    def _scratch(self, length: int) -> np.ndarray:
        if self._room.shape[1] != length:
            self._room = np.zeros((self._spec.channels, length), np.float32)
        return self._room

    def read_back(self) -> np.ndarray:
        """`[taken]`: the values asked for, but where the plugin reports another one, that.

        Raises:
            PluginError: the plugin did not take a value that is fixed in this chain.
        """
        sent = self._values.copy()
        with self._at_work():
            read = self._processor.read_back()
            if read is not None:
                read = np.asarray(read, dtype=np.float64)
                if read.shape != sent.shape:
                    raise ValueError(f"read_back() gave shape {list(read.shape)}, not {list(sent.shape)}")
                # Links have tolerances of their own, so the chain's is zero.
                sent = np.where(np.abs(read - sent) <= self._o["tolerance"], sent, read)
        for position, value, name in self._o["fixed"]:
            if abs(sent[position] - value) > 0:  # NaN: it cannot tell
                raise PluginError(
                    f"{self._o['part']} did not take its fixed parameter {name!r}: sent plugin value "
                    f"{value:g}, read back {sent[position]:g}"
                )
        return np.append(sent[self._o["free"]], [float(self.bypassed)] * self._o["bypass"])

    def close(self) -> None:
        self._processor.close()


class ChainProcessor(Processor):
    """Links one after the other.

    Args:
        options: `links`, a list of what `chains.link_options` makes.
        spec: every link gets it. Of the reset policies "reset" and "state" only links whose effect lists
            them as cheaper resets make use; others are made anew, which is never wrong.
    """

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        self._links: list[Link] = []
        floating_point = FloatingPoint()
        try:
            for number, link in enumerate(options["links"], 1):
                self._links.append(Link(number, link, spec, floating_point))
        except BaseException:
            self.close()
            raise

    def prepare(self, values: np.ndarray) -> None:
        taken = [link.taken for link in self._links]
        if np.shape(values) != (sum(taken),):
            raise PluginError(f"this chain takes {sum(taken)} values, not {np.shape(values)}")
        for link, share in zip(self._links, np.split(values, np.cumsum(taken)[:-1]), strict=True):
            link.prepare(share)
        last = self._links[-1]
        self.latency = sum(link.align(last=link is last) for link in self._links)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        for link in self._links[:-1]:
            audio = link.aligned(link.process(audio))
            if not audio.shape[1]:
                out[:] = 0
                return
        late = out.shape[1] - audio.shape[1]
        if late:
            out[:, :late] = 0
            out[:, late:] = self._links[-1].process(audio)
        else:
            self._links[-1].process(audio, out)

    def read_back(self) -> np.ndarray:
        return np.concatenate([link.read_back() for link in self._links])

    def close(self) -> None:
        for link in self._links:
            with contextlib.suppress(Exception):
                link.close()
        self._links = []
