"""How a piece of a fixed set lies on disk: a WebDataset shard, an Arrow file, or a folder of wav and JSON.

Bytes depend on the examples alone (no times, no names of machines), so a set that is made twice is the same
twice.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dafxhost.data.examples import ExampleBatch
from dafxhost.effects import Effect
from dafxhost.errors import UnknownNameError, UsageError

BITS = (16, 32)
READ = 1 << 20


class Shard(ABC):
    """One shard being written, at a path of its own that `render_set` renames in the end.

    Args:
        path: where to write; nothing is there yet. effect: of the examples. sample_rate: Hz.
        bits: 32 (floating point) or 16, of a sample.
    """

    def __init__(self, path: Path, effect: Effect, sample_rate: int, bits: int) -> None:
        self.path, self.effect, self.sample_rate, self.bits = path, effect, sample_rate, bits

    @abstractmethod
    def add(self, batch: ExampleBatch, numbers: range) -> None:
        """Append examples; `numbers` are theirs in the whole set."""

    @abstractmethod
    def finish(self) -> dict[str, str]:
        """Write what is left -> {file (relative to the set, if the shard is a folder to that): SHA-256}."""

    def discard(self) -> None:
        """Throw away what was written."""
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with suppress(OSError):
                self.path.unlink()

    def card(self, batch: ExampleBatch, row: int, number: int) -> dict[str, Any]:
        """What the JSON beside an example says."""
        setting = batch.settings[row]
        card = {
            "number": number,
            "source": batch.names[row],
            "pairs": batch.pairs,
            "effect": self.effect.name,
            "applied": bool(batch.applied[row]),
            "sample_rate": self.sample_rate,
            "native": self.effect.describe(setting),
            "setting": _named(self.effect, setting),
        }
        if batch.input_settings is not None:
            card["input_native"] = self.effect.describe(batch.input_settings[row])
            card["input_setting"] = _named(self.effect, batch.input_settings[row])
        return card

    def files(self, batch: ExampleBatch, row: int, number: int) -> dict[str, bytes]:
        """An example's files by suffix; there is no reference where the target is the same."""
        parts = {"input": batch.dry, "reference": batch.reference, "target": batch.target}
        if batch.reference is batch.target:
            del parts["reference"]
        made = {f"{name}.wav": self.wav(audio[row]) for name, audio in parts.items()}
        return {"json": _json(self.card(batch, row, number)), **made}

    def wav(self, audio: np.ndarray) -> bytes:
        """`[C, T]` as a wav file. libsndfile would write the time into one of floating point."""
        from scipy.io import wavfile

        memory = io.BytesIO()
        wavfile.write(memory, self.sample_rate, np.ascontiguousarray(self.samples(audio).T))
        return memory.getvalue()

    def samples(self, audio: np.ndarray) -> np.ndarray:
        if self.bits == 32:
            return audio
        return np.round(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)


class _Hashing:
    """A file that knows the SHA-256 of what was written to it."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: Any) -> int:
        self._digest.update(data)
        written = self._file.write(data)
        self._size += written
        return written

    def tell(self) -> int:
        return self._size

    @property
    def closed(self) -> bool:
        return self._file.closed

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def finish(self) -> str:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()


class TarShard(Shard):
    """A tar as WebDataset reads it: 000012.json, 000012.input.wav, 000012.reference.wav,
    000012.target.wav."""

    suffix = ".tar"

    def __init__(self, path: Path, effect: Effect, sample_rate: int, bits: int) -> None:
        super().__init__(path, effect, sample_rate, bits)
        self._file: Any = _Hashing(path)  # all of a file that `tarfile` needs
        self._tar = tarfile.open(  # noqa: SIM115  (closed by `finish`)
            fileobj=self._file, mode="w|", format=tarfile.USTAR_FORMAT
        )

    def add(self, batch: ExampleBatch, numbers: range) -> None:
        for row, number in enumerate(numbers):
            for suffix, data in self.files(batch, row, number).items():
                entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                entry.size, entry.mode = len(data), 0o644
                self._tar.addfile(entry, io.BytesIO(data))

    def finish(self) -> dict[str, str]:
        self._tar.close()
        return {"": self._file.finish()}

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        super().discard()


class FolderShard(Shard):
    """A folder: 000012.json, 000012.input.wav, ..."""

    suffix = ""

    def __init__(self, path: Path, effect: Effect, sample_rate: int, bits: int) -> None:
        super().__init__(path, effect, sample_rate, bits)
        path.mkdir()
        self._sums: dict[str, str] = {}

    def add(self, batch: ExampleBatch, numbers: range) -> None:
        for row, number in enumerate(numbers):
            for suffix, data in self.files(batch, row, number).items():
                name = f"{number:06d}.{suffix}"
                file = _Hashing(self.path / name)
                try:
                    file.write(data)
                    self._sums[name] = file.finish()
                finally:
                    file.close()

    def finish(self) -> dict[str, str]:
        return self._sums


class ArrowShard(Shard):
    """An Arrow IPC file: columns number, source, applied, setting, input_setting, and the audio as lists."""

    suffix = ".arrow"

    def __init__(self, path: Path, effect: Effect, sample_rate: int, bits: int) -> None:
        super().__init__(path, effect, sample_rate, bits)
        self._arrow = _pyarrow()
        self._file = _Hashing(path)
        self._writer: Any = None

    def add(self, batch: ExampleBatch, numbers: range) -> None:
        pa = self._arrow
        audio = {"input": batch.dry, "reference": batch.reference, "target": batch.target}
        if batch.reference is batch.target:
            del audio["reference"]
        columns = {
            "number": pa.array(list(numbers), pa.int64()),
            "source": pa.array(batch.names, pa.string()),
            "applied": pa.array(batch.applied.tolist(), pa.bool_()),
            "setting": self._lists(batch.settings),
        }
        if batch.input_settings is not None:
            columns["input_setting"] = self._lists(batch.input_settings)
        columns |= {name: self._lists(self.samples(part[:, 0])) for name, part in audio.items()}
        table = pa.record_batch(columns)
        if self._writer is None:
            facts = {
                "effect": self.effect.name,
                "parameters": json.dumps(self.effect.parameter_names),
                "sample_rate": str(self.sample_rate),
                "pairs": batch.pairs,
            }
            schema = table.schema.with_metadata(facts)
            self._writer = pa.ipc.new_file(pa.PythonFile(self._file, mode="w"), schema)
        self._writer.write_batch(table)

    def _lists(self, rows: np.ndarray) -> Any:
        """`[B, N]` -> a column of lists of N."""
        pa = self._arrow
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])

    def finish(self) -> dict[str, str]:
        self._writer.close()
        return {"": self._file.finish()}

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        super().discard()


FORMS: dict[str, type[Shard]] = {"webdataset": TarShard, "arrow": ArrowShard, "folder": FolderShard}


def shard_class(form: str, bits: int) -> Callable[[Path, Effect, int, int], Shard]:
    """The kind of shard of that name. Raises UnknownNameError, UsageError: what it needs is not there."""
    if form not in FORMS:
        raise UnknownNameError("format", form, FORMS)
    if bits not in BITS:
        raise UsageError(f"samples of {bits} bits are not written; choose 16 or 32 (floating point)")
    if form == "arrow":
        _pyarrow()
    return FORMS[form]


def file_sum(path: Path) -> str:
    """SHA-256 of a file, "" if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(READ):
                digest.update(data)
    except OSError:
        return ""
    return digest.hexdigest()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise UsageError(
            'Arrow files need the package pyarrow: pip install "dafxhost[data]", or choose another format'
        ) from error
    return pyarrow


def _named(effect: Effect, setting: np.ndarray) -> dict[str, float]:
    return dict(zip(effect.parameter_names, map(float, setting), strict=True))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
