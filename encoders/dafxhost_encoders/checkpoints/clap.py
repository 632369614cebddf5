"""The audio tower of a CLAP model (Wu 2023), by the package transformers, from a folder on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.encoders import Encoder
from dafxhost.errors import RunError, UsageError

MEMORY = 30
"""Seconds a clip may take at once, if the model does not say how long it was trained on."""


class ClapAudio(Encoder):
    """CLAP's audio tower with its projection: an embedding of length 1.

    Frozen. Clips are brought to full scale, repeated to the length the model was trained on, and longer ones
    are cut into equal pieces of at most that length, whose embeddings are averaged.

    Args:
        weights: folder with `config.json`, `preprocessor_config.json` and the weights in safetensors, as
            `ClapModel.save_pretrained` writes it (laion/clap-htsat-unfused, for one, downloaded beforehand).
        structure: of the network, in place of it (random weights, to be filled).

    Raises:
        UsageError: neither or both are given, or transformers is not installed. RunError: no such model.
    """

    name = "clap"
    from_file = True

    def __init__(self, weights: str | Path | None = None, structure: Mapping[str, Any] | None = None) -> None:
        if (weights is None) == (structure is None):
            raise UsageError(
                "the encoder clap needs its model: --encoder clap --encoder-weights DIR, or weights=DIR"
            )
        clap = _transformers()
        if weights is not None:
            structure = _structure(clap, Path(weights))
            model = _load(clap, Path(weights))
        else:
            model = clap.ClapAudioModelWithProjection(clap.ClapAudioConfig(**dict(structure or {})["audio"]))
        self.structure = dict(structure or {})
        self.front: Any = _front_end(clap, self.structure["features"])
        rate = int(self.front.sampling_rate)
        super().__init__(int(model.config.projection_dim), rate, minimum_samples=rate // 10)
        self.model: Any = model
        self.freeze()

    def config(self) -> dict[str, Any]:
        return {"structure": self.structure}

    def train(self, mode: bool = True) -> ClapAudio:
        """Eval mode whatever is asked for, as it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def embed(self, audio: Tensor) -> Tensor:
        audio = audio / audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
        most = int(self.front.nb_max_samples) or MEMORY * self.sample_rate
        count = math.ceil(audio.shape[1] / most)
        length = audio.shape[1] // count
        pieces = [self._piece(audio[:, i * length : (i + 1) * length]) for i in range(count)]
        return nn.functional.normalize(torch.stack(pieces).mean(dim=0), dim=-1)

    def _piece(self, audio: Tensor) -> Tensor:
        clips = list(audio.cpu().numpy())
        given = self.front(clips, sampling_rate=self.sample_rate, return_tensors="pt")
        features = given["input_features"].to(audio.device, torch.float32)
        # Whole clips fit, so that the model's random choice of an excerpt is never needed.
        longer = torch.zeros(len(clips), 1, dtype=torch.bool, device=audio.device)
        out = self.model(input_features=features, is_longer=longer).audio_embeds
        return nn.functional.normalize(out, dim=-1)


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ImportError as error:
        raise UsageError('the encoder clap needs transformers: pip install "dafxhost[clap]"') from error


def _structure(clap: Any, folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise RunError(
            f"no CLAP model in {folder}: give the folder that ClapModel.save_pretrained wrote, "
            "with config.json"
        )
    try:
        whole = clap.ClapConfig.from_pretrained(folder, local_files_only=True)
        front = clap.ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{folder} holds no CLAP model that transformers can read: {error}") from error
    keep = ("sampling_rate", "feature_size", "hop_length", "max_length_s", "fft_window_size", "padding",
            "frequency_min", "frequency_max")  # fmt: skip
    audio = {**whole.audio_config.to_diff_dict(), "projection_dim": whole.projection_dim}
    return {"audio": audio, "features": {key: getattr(front, key) for key in keep}}


def _load(clap: Any, folder: Path) -> Any:
    logs = clap.utils.logging
    before = logs.get_verbosity()
    logs.set_verbosity_error()  # that the text tower's weights are left over is no news
    try:
        return clap.ClapAudioModelWithProjection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise RunError(
            f"the CLAP model in {folder} cannot be loaded: {str(error).splitlines()[0]} "
            "(weights are taken from model.safetensors only)"
        ) from error
    finally:
        logs.set_verbosity(before)


def _front_end(clap: Any, features: Mapping[str, Any]) -> Any:
    """Its log-mel spectrograms: repeated to full length, never cut at random (one view, no fusion)."""
    return clap.ClapFeatureExtractor(**{**features, "padding": "repeatpad"}, truncation="rand_trunc")
