"""Where the settings of examples come from: uniform, perceptually even, or presets.

A uniform draw of settings is not a uniform draw of sounds: most of a parameter's range often sounds alike,
and all that happens happens at one end. "even" measures how far the sound moves along each parameter and
draws so that equal probability covers equal change.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dafxhost
from dafxhost.cache import cache_folder
from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError, UnknownNameError, UsageError
from dafxhost.registry import registry
from dafxhost.settings import checked, load_setting, write_whole

DRAWS = ("uniform", "even", "presets")
GRID = 17
"""Values of a parameter that are rendered, evenly spaced on 0..1."""
CONTEXTS = 6
"""Random settings of the other parameters at which that is done."""
FLOOR = 0.15
"""Share of the draws of "even" that is uniform all the same: what is quiet now may sound in other music."""
LEAST = 0.1
"""dB along the whole range: a parameter that moves the sound less is drawn uniformly."""
SILENCE = 1e-3
SECONDS = 1.5
EVERY = 4
FORMAT = 1


class SettingDraw(ABC):
    """A distribution over the settings of one effect.

    Attributes:
        effect: whose settings. name: for messages, e.g. "random".
    """

    name = "random"

    def __init__(self, effect: Effect) -> None:
        self.effect = effect

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A setting `[P]` on 0..1, decided by `rng` alone; a discrete value lies in the middle of its bin."""


class UniformDraw(SettingDraw):
    """Every parameter uniform on 0..1; all values of a discrete one are equally likely."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return quantised(self.effect, rng.random(len(self.effect.parameters)))


class EvenDraw(SettingDraw):
    """Continuous parameters so that equal probability covers equal change of sound; discrete ones uniform.

    Args:
        effect: whose settings.
        movement: {continuous parameter: change of sound between neighbours of an even grid on 0..1, in dB};
            see `measure_movement`. A parameter that is not named is drawn uniformly.
    """

    name = "perceptually even"

    def __init__(self, effect: Effect, movement: Mapping[str, Sequence[float]]) -> None:
        super().__init__(effect)
        self.movement = {k: np.asarray(v, dtype=np.float64) for k, v in movement.items()}
        self._curves: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for i, parameter in enumerate(effect.parameters):
            steps = self.movement.get(parameter.name)
            if parameter.levels or steps is None or not steps.sum() > LEAST:
                continue
            density = FLOOR / len(steps) + (1 - FLOOR) * steps / steps.sum()
            share = np.concatenate([[0.0], np.cumsum(density)])
            self._curves[i] = share / share[-1], np.linspace(0.0, 1.0, len(share))

    @classmethod
    def measured(cls, executor: Any, sample_rate: int) -> EvenDraw:
        """By `measure_movement`, or what was kept of it for this plugin at that rate.

        It is kept in `DAFXHOST_CACHE` or the user's cache folder, under the plugin's identity.
        """
        effect = executor.effect
        place = cache_folder() / f"even-{_key(effect, sample_rate)}.json"
        try:
            return cls(effect, json.loads(place.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, TypeError):
            pass  # not measured yet, or broken
        movement = measure_movement(executor, sample_rate)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, json.dumps(movement, indent=1).encode())
        except (OSError, DafxhostError):
            pass  # a read-only home is no reason to fail
        return cls(effect, movement)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        drawn = rng.random(len(self.effect.parameters))
        for i, (share, grid) in self._curves.items():
            drawn[i] = np.interp(drawn[i], share, grid)
        return quantised(self.effect, drawn)


class PresetDraw(SettingDraw):
    """One of some settings, all equally likely, its continuous parameters moved a little.

    Args:
        effect: whose settings. presets: {name: setting `[P]` on 0..1}, at least one.
        spread: standard deviation on 0..1 by which continuous parameters are moved.
    """

    name = "preset"

    def __init__(self, effect: Effect, presets: Mapping[str, np.ndarray], spread: float = 0.0) -> None:
        super().__init__(effect)
        if not presets:
            raise UsageError(f"there is no preset of {effect.name} to draw from")
        if not 0 <= spread <= 1:
            raise UsageError(f"a spread of {spread:g} is out of range; it lies on 0 to 1")
        self.presets = {name: checked(effect, setting) for name, setting in sorted(presets.items())}
        self.spread = spread
        self._settings = np.stack(list(self.presets.values()))
        self._moves = np.array([not p.levels for p in effect.parameters])

    @classmethod
    def found(cls, effect: Effect, folder: str | os.PathLike[str] = "", spread: float = 0.0) -> PresetDraw:
        """The settings (.json, as `dafxhost transfer` writes them) of a folder; without one, the presets
        that come with the plugin, which only LV2 tells.

        Raises:
            UsageError: there are none, no such folder, or a file that is no setting of this effect.
        """
        if folder:
            return cls(effect, _from_folder(effect, Path(folder)), spread)
        known = registry().factory_presets(effect)
        if not known:
            reason = (
                "comes with no presets" if known is not None else "does not tell its own presets (LV2 does)"
            )
            raise UsageError(
                f"{effect.name} by {effect.provider.name} {reason}; name a folder of settings (.json) instead"
            )
        return cls(effect, {name: effect.setting(**values) for name, values in known.items()}, spread)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        setting = self._settings[int(rng.integers(len(self._settings)))].copy()
        if self.spread:
            moved = setting + self.spread * rng.standard_normal(len(setting))
            setting = np.where(self._moves, np.clip(moved, 0.0, 1.0), setting)
        return quantised(self.effect, setting)


def make_draw(kind: str, executor: Any, sample_rate: int, presets: str = "") -> SettingDraw:
    """The distribution of that name ("uniform", "even", "presets") for an executor's effect.

    Args:
        presets: folder of settings for "presets"; "" for those of the plugin.

    Raises:
        UnknownNameError: no such kind. UsageError: no presets.
    """
    if kind == "uniform":
        return UniformDraw(executor.effect)
    if kind == "even":
        return EvenDraw.measured(executor, sample_rate)
    if kind == "presets":
        return PresetDraw.found(executor.effect, presets)
    raise UnknownNameError("distribution of settings", kind, DRAWS)


def measure_movement(executor: Any, sample_rate: int) -> dict[str, list[float]]:
    """How far the sound moves along each continuous parameter of an executor's effect.

    A clip of our own (a chord that decays, hits of noise) is rendered at an even grid of the parameter's
    values, the others at random; what comes out is brought to one peak level. The distance of two
    neighbours is the root mean square over 60 mel bands of their difference in dB, the mean over frames and
    over the random settings.

    Returns:
        {parameter: `GRID` - 1 distances in dB}.
    """
    from dafxhost.data.features import mel_levels, normalise_peak

    effect, clip = executor.effect, _stimulus(sample_rate)
    movement: dict[str, list[float]] = {}
    for i, parameter in enumerate(effect.parameters):
        if parameter.levels:
            continue
        rng = np.random.default_rng([i, FORMAT])
        settings = rng.random((CONTEXTS, 1, len(effect.parameters))).repeat(GRID, axis=1)
        settings[:, :, i] = np.linspace(0.0, 1.0, GRID)
        wet = executor.render(clip, settings.reshape(1, CONTEXTS * GRID, -1), sample_rate, on_error="nan")[0]
        # What failed is left out, and so is silence: nobody learns from it, and it is far from everything.
        rendered = np.isfinite(wet).all(axis=(1, 2)) & (
            np.nan_to_num(np.abs(wet).max(axis=(1, 2))) >= SILENCE
        )
        audio = normalise_peak(np.where(rendered[:, None, None], wet, 0))
        levels = np.stack([mel_levels(one[0], sample_rate, EVERY) for one in audio])
        levels[~rendered] = np.nan
        levels = levels.reshape(CONTEXTS, GRID, *levels.shape[1:])
        change = np.sqrt(np.square(np.diff(levels, axis=1)).mean(axis=-1)).mean(axis=-1)
        known = np.isfinite(change)
        mean = np.where(known, change, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        movement[parameter.name] = [round(float(step), 4) for step in mean]
    return movement


def quantised(effect: Effect, setting: np.ndarray) -> np.ndarray:
    """The settings of the values that `[P]` stands for."""
    pairs = zip(effect.parameters, setting, strict=True)
    return np.array([float(p.quantise(u)) for p, u in pairs], dtype=np.float64)


def _stimulus(sample_rate: int) -> np.ndarray:
    """`[1, 1, T]` float32: a chord of saws that decays, and two hits of noise, peak -6 dBFS."""
    n = int(SECONDS * sample_rate)
    time = np.arange(n) / sample_rate
    chord = np.zeros(n)
    for f in (82.4, 207.7, 329.6):
        for k in range(1, max(2, min(40, int(0.45 * sample_rate / f)))):
            chord += np.sin(2 * np.pi * f * k * time + k) / k
    chord *= np.exp(-2.0 * time)
    noise = np.random.default_rng(0).standard_normal(n)
    for start in (0.0, 0.7):
        since = time - start
        chord += 2.0 * noise * np.where(since >= 0, np.exp(-30.0 * np.abs(since)), 0.0)
    return (0.5 * chord / np.abs(chord).max()).astype(np.float32)[None, None]


def _from_folder(effect: Effect, folder: Path) -> dict[str, np.ndarray]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of settings")
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UsageError(f"{folder} holds no settings (.json, as `dafxhost transfer` writes them)")
    return {file.stem: load_setting(file, effect).setting for file in files}


def _key(effect: Effect, sample_rate: int) -> str:
    provider = effect.provider
    facts = [FORMAT, effect.name, provider.name, provider.identity or dafxhost.__version__, sample_rate]
    facts += [dict(provider.options), effect.parameter_names]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
