"""The run folder: what training writes, and what `transfer` and `evaluate` read.

::

    runs/mda-combo-20260102-030405/
      config.toml              the resolved `TrainConfig`
      log.jsonl                a line an epoch
      best.safetensors, .json  the controller with the lowest validation distance, and its card
      supervised.*             the controller as the supervised phase left it
      last.*                   the newest controller
      state.safetensors        what resuming needs: weights, optimiser, random states, place in the schedule
      pool.safetensors         embedded supervised examples, only while that phase lasts
      tracking/                of trackers, where `--track` named some: a folder each

A card names the effect with its parameters and ranges, provider, encoder, sample rate, versions and figures.
Everything is written beside its place and renamed, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import soxr
import torch

import dafxhost
from dafxhost.effects import Effect
from dafxhost.encoders import Encoder
from dafxhost.errors import OutputError, ParameterError, RunError, ShapeError, UnknownNameError, UsageError
from dafxhost.parameters import Parameter
from dafxhost.registry import encoder as make_encoder
from dafxhost.run_folders import CHECKPOINTS as CHECKPOINTS
from dafxhost.run_folders import CONFIG as CONFIG
from dafxhost.run_folders import LOG as LOG
from dafxhost.run_folders import POOL as POOL
from dafxhost.run_folders import STATE as STATE
from dafxhost.run_folders import member, members, shipped_effects, shipped_run
from dafxhost.settings import location
from dafxhost.training.controller import Controller
from dafxhost.training.run_files import append_line as append_line
from dafxhost.training.run_files import load_state as load_state
from dafxhost.training.run_files import save_state as save_state
from dafxhost.training.run_files import tensors_of as tensors_of
from dafxhost.training.run_files import write_file as write_file

FORMAT = 1
LONGEST_NAME = 60  # of a run, without its time: the name of a chain is as long as the chain
EXCERPTS = 6
"""Most excerpts of a recording that the controller hears."""


def new_run(effect: str, folder: str | Path = "runs") -> Path:
    """Make and return a folder `<effect>-<YYYYmmdd-HHMMSS>` in `folder`. Raises OutputError."""
    name = re.sub(r"[^\w.]+", "-", effect).strip("-")[:LONGEST_NAME]
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in ["", *(f"-{i}" for i in range(2, 100))]:
        path = Path(folder) / (stem + suffix)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if path.is_dir():
                continue
            raise OutputError(f"cannot make the run folder {path}: a file is in the way") from None
        except OSError as error:
            raise OutputError(f"cannot make the run folder {path}: {error.strerror}") from error
        return path
    raise OutputError(f"cannot make the run folder {Path(folder) / stem}: too many of that name")


def _is_of(card: dict[str, Any], effect: str) -> bool:
    """Whether a run's card is of an effect, given by its name or, where it has none, by its file or URI."""
    place = card.get("location")
    if effect in (card["effect"], place):
        return True
    return bool(place) and Path(effect).exists() and Path(effect).resolve() == Path(str(place)).resolve()


def newest_run(folder: str | Path = "runs", effect: str | None = None) -> Path:
    """The run in `folder` that was written last and has a controller, of that effect if one is named.

    Where there is none of that effect, it is the one that comes with dafxhost.

    Raises:
        RunError: there is none.
    """
    found = []
    try:
        candidates = sorted(p for p in Path(folder).iterdir() if p.is_dir())
        candidates += [part for path in candidates for part in _parts(path)]
    except OSError:
        candidates = []
    for path in candidates:
        card = next((path / f"{n}.json" for n in CHECKPOINTS if (path / f"{n}.json").is_file()), None)
        if card is None:
            continue
        try:
            if effect is None or _is_of(read_card(card), effect):
                found.append((card.stat().st_mtime_ns, path.name, path))
        except (RunError, OSError):
            continue  # a damaged run is no reason not to find the others
    shipped = shipped_run(effect) if effect and not found else None
    if shipped is not None:
        return shipped
    if not found:
        of = f" of effect {effect!r}" if effect else ""
        train = f" --effect {shlex.quote(effect)}" if effect else ""
        come = "" if effect else f", or name an effect that comes with one: {', '.join(shipped_effects())}"
        raise RunError(
            f"no run{of} with a controller in {folder}; train one first: dafxhost train{train}{come}"
        )
    return max(found)[2]


def _parts(path: Path) -> list[Path]:
    """Parts of a run for several effects that can be loaded."""
    try:
        return list(members(path).values())
    except RunError:
        return []


def card_of(effect: Effect, controller: Controller, sample_rate: int, samples: int) -> dict[str, Any]:
    """The card of a controller without figures."""
    return {
        "format": FORMAT,
        "effect": effect.name,
        "location": location(effect),
        "parameters": [p.to_dict() for p in effect.parameters],
        "provider": {"name": effect.provider.name, "identity": effect.provider.identity},
        "encoder": {"name": controller.encoder.name, "config": controller.encoder.config()},
        "controller": controller.config(),
        "sample_rate": sample_rate,
        "samples": samples,
        "versions": {"dafxhost": dafxhost.__version__, "torch": torch.__version__},
    }


def save_controller(path: Path, name: str, controller: Controller, card: dict[str, Any]) -> None:
    """Write `<name>.safetensors` and `<name>.json` into the run at `path`. Raises OutputError."""
    data = safetensors.torch.save(tensors_of(controller))
    write_file(path / f"{name}.safetensors", data)
    card = {**card, "weights_sha256": hashlib.sha256(data).hexdigest()}
    write_file(path / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())


def read_card(path: Path) -> dict[str, Any]:
    """A checkpoint's card. Raises RunError: missing, not JSON, a field missing, another format."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: it is not JSON") from error
    needed = (
        "effect",
        "parameters",
        "provider",
        "encoder",
        "controller",
        "sample_rate",
        "samples",
        "weights_sha256",
    )
    missing = [k for k in needed if not isinstance(card, dict) or k not in card]
    if missing:
        raise RunError(f"{path} is not the card of a run: it has no {missing[0]}")
    if card.get("format") != FORMAT:
        raise RunError(f"{path} has format {card.get('format')!r}; this dafxhost reads {FORMAT}")
    return card


@dataclass
class Run:
    """A trained controller.

    Attributes:
        path: of the run folder. checkpoint: "best", "supervised" or "last".
        card: as written by training. controller: on the CPU, in eval mode.
        effect_name: which effect it is for. parameters: that effect's, without ports.
        sample_rate: Hz, of what the controller hears. samples: length of the clips it was trained on.
    """

    path: Path
    checkpoint: str
    card: dict[str, Any]
    controller: Controller
    parameters: tuple[Parameter, ...]

    @property
    def effect_name(self) -> str:
        return self.card["effect"]

    @property
    def where(self) -> str:
        """What finds the effect again: its name, or the plugin file or URI of one without a name."""
        return self.card.get("location") or self.effect_name

    @property
    def sample_rate(self) -> int:
        return self.card["sample_rate"]

    @property
    def samples(self) -> int:
        return self.card["samples"]

    def check_effect(self, effect: Effect) -> None:
        """Raise RunError unless `effect` is the one this run is for, with the same parameters and ranges."""
        if effect.name != self.effect_name:
            raise RunError(f"run {self.path} was made for effect {self.effect_name!r}, not {effect.name!r}")
        for kept, now in zip(self.card["parameters"], [p.to_dict() for p in effect.parameters], strict=False):
            for key, value in kept.items():
                if now[key] != value:
                    raise RunError(
                        f"run {self.path} was made when {key} of {effect.name}'s parameter {kept['name']!r} "
                        f"was {value!r}; now it is {now[key]!r}: train again"
                    )
        if len(self.parameters) != len(effect.parameters):
            raise RunError(
                f"run {self.path} was made for {len(self.parameters)} parameters of {effect.name}, "
                f"which now has {len(effect.parameters)}: train again"
            )

    def predict(self, input: np.ndarray, reference: np.ndarray, sample_rate: int) -> np.ndarray:
        """The setting `[P]` (float64, on 0..1) that brings `input` to sound like `reference`.

        Of recordings longer than the clips of training, up to six of the loudest excerpts are heard, and the
        distributions that they give are averaged.

        Args:
            input, reference: `[C, T]`, of any length and channel count, at `sample_rate` Hz.

        Raises:
            ShapeError: other shapes. ParameterError: NaN or infinite samples. UsageError: a silent recording.
        """
        a, b = (self._excerpts(x, sample_rate, w) for x, w in ((input, "input"), (reference, "reference")))
        n = max(len(a), len(b))
        return self.predict_pairs([a[i % len(a)] for i in range(n)], [b[i % len(b)] for i in range(n)])

    @torch.no_grad()
    def predict_pairs(self, inputs: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> np.ndarray:
        """One setting `[P]` (float64) for N pairs of excerpts, each `[C, T]` at the run's rate, all of one
        input and one reference: the mean of the distributions that the pairs give is decoded.
        """
        embedded = self.embed_pairs(inputs, references)
        return self.decode_pairs(self.logits(*embedded), embedded)

    @torch.no_grad()
    def embed_pairs(
        self, inputs: Sequence[np.ndarray], references: Sequence[np.ndarray]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings `[N, D]` of the inputs and of the references of N pairs of excerpts."""
        dry, reference = (torch.cat([self._embed(clip) for clip in clips]) for clips in (inputs, references))
        return dry, reference

    @torch.no_grad()
    def logits(self, dry: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Logits `[N, P, L]` of N pairs of embeddings `[N, D]`."""
        return self.controller(dry, reference)

    @torch.no_grad()
    def pair_logits(self, inputs: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> torch.Tensor:
        """Logits `[N, P, L]` of N pairs of excerpts, each `[C, T]` at the run's rate."""
        return self.logits(*self.embed_pairs(inputs, references))

    @torch.no_grad()
    def decode_pairs(self, logits: torch.Tensor, embedded: tuple[torch.Tensor, torch.Tensor]) -> np.ndarray:
        """The setting `[P]` of the mean of the distributions that logits `[N, P, L]` stand for.

        Landmarks are looked for in each pair; the one in which most parameters are located counts.
        """
        return self.located_pairs(logits, embedded)[0]

    @torch.no_grad()
    def located_pairs(
        self, logits: torch.Tensor, embedded: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`decode_pairs`, and `[P]` bool: which parameters a landmark located."""
        mean = logits.log_softmax(dim=-1).logsumexp(dim=0, keepdim=True)
        settings, put = self.controller.settle(mean.expand_as(logits), *embedded)
        best = int(put.sum(dim=1).argmax())
        return settings[best].double().numpy(), put[best].numpy()

    def predict_batch(self, inputs: np.ndarray, references: np.ndarray) -> np.ndarray:
        """N settings `[N, P]` (float64) for N pairs of clips `[N, C, T]` at the run's rate."""
        a, b = (torch.from_numpy(np.asarray(x, np.float32)) for x in (inputs, references))
        return self.controller.setting(a, b, self.sample_rate).double().numpy()

    @torch.no_grad()
    def standardised(self, clips: np.ndarray) -> np.ndarray:
        """Embeddings `[N, D]` (float64) of clips `[N, C, T]` at the run's rate, each entry less its mean over
        the training data and over its standard deviation there.
        """
        c = self.controller
        heard = c.embed(torch.from_numpy(np.ascontiguousarray(clips, np.float32)), self.sample_rate)
        return ((heard - c.mean) / c.scale)[:, : c.encoder.described].double().numpy()

    def _embed(self, clip: np.ndarray) -> torch.Tensor:
        return self.controller.embed(torch.from_numpy(np.asarray(clip, np.float32))[None], self.sample_rate)

    def _excerpts(self, audio: np.ndarray, sample_rate: int, what: str) -> list[np.ndarray]:
        audio = np.asarray(audio, dtype=np.float32)
        if audio.ndim != 2 or audio.size == 0:
            raise ShapeError(f"the {what} has shape [C, T], not {list(audio.shape)}")
        if not np.isfinite(audio).all():
            raise ParameterError(f"the {what} holds NaN or infinite samples")
        mono = audio.mean(axis=0)
        if sample_rate != self.sample_rate:
            mono = soxr.resample(mono, sample_rate, self.sample_rate)
        if mono.size == 0 or np.abs(mono).max() < 1e-5:
            raise UsageError(f"the {what} is silent")
        count = max(1, mono.size // self.samples)
        if count == 1:
            return [mono[None, : self.samples]]
        pieces = mono[: count * self.samples].reshape(count, 1, self.samples)
        power = np.square(pieces).mean(axis=(1, 2))
        loud = np.flatnonzero(power >= 0.1 * power.max())
        return [
            pieces[i] for i in np.unique(loud[np.linspace(0, len(loud) - 1, EXCERPTS).round().astype(int)])
        ]


def make_controller(card: dict[str, Any], where: Path) -> tuple[Controller, tuple[Parameter, ...]]:
    """The untrained controller that a card describes. Raises RunError."""
    try:
        parameters = tuple(Parameter(**{**p, "choices": tuple(p["choices"])}) for p in card["parameters"])
        encoder: Encoder = make_encoder(card["encoder"]["name"], **card["encoder"]["config"])
        return Controller(encoder, parameters, **card["controller"]), parameters
    except UnknownNameError:
        raise
    except (TypeError, KeyError, UsageError) as error:
        raise RunError(f"{where} describes a controller that cannot be made: {error}") from error


def load_run(path: str | Path, checkpoint: str | None = None, effect: Effect | None = None) -> Run:
    """The run in folder `path`.

    Args:
        checkpoint: "best", "supervised" or "last"; by default the first of these that there is.
        effect: if given, checked with `Run.check_effect`.

    Raises:
        RunError: no run, no controller in it yet, a damaged file, or made for something else.
    """
    path = member(path, None if effect is None else effect.name)
    if not path.is_dir():
        raise RunError(f"there is no run folder {path}")
    if checkpoint is not None and checkpoint not in CHECKPOINTS:
        raise UsageError(f"unknown checkpoint {checkpoint!r}; there are {', '.join(CHECKPOINTS)}")
    names = [checkpoint] if checkpoint else CHECKPOINTS
    name = next((n for n in names if (path / f"{n}.json").is_file()), None)
    if name is None:
        what = f"no {checkpoint} controller" if checkpoint else "no controller"
        raise RunError(f"{path} holds {what}: it is no run folder, or its training ended too early")
    card = read_card(path / f"{name}.json")
    weights = path / f"{name}.safetensors"
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {weights}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != card["weights_sha256"]:
        raise RunError(f"{weights} is damaged, or not the file that {name}.json was written for")
    controller, parameters = make_controller(card, path / f"{name}.json")
    load_weights(controller, safetensors.torch.load(data), weights)
    run = Run(path, name, card, controller.eval(), parameters)
    if effect is not None:
        run.check_effect(effect)
    return run


def load_best(path: Path, controller: Controller) -> None:
    """Put the weights of a run's best checkpoint into its controller, if there is one. Raises RunError."""
    weights = path / "best.safetensors"
    if weights.is_file():
        load_weights(controller, safetensors.torch.load(weights.read_bytes()), weights)


def load_weights(module: torch.nn.Module, tensors: dict[str, torch.Tensor], where: Path) -> None:
    """Put tensors into a module. Raises RunError naming the first misfit."""
    if isinstance(module, Controller):
        module.make_room(tensors)
    wanted = module.state_dict()
    for key in [*wanted, *tensors]:
        if key not in tensors or key not in wanted or tensors[key].shape != wanted[key].shape:
            raise RunError(
                f"{where} does not fit its controller: {key} is missing, unknown or of another shape"
            )
    module.load_state_dict(tensors)
