"""The timbral-features encoder: eight numbers that listeners have words for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.encoders import Encoder
from dafxhost.timbre.features import FEATURES, checked_names, timbral_features

SCALES = {
    "hardness": (55.0, 15.0),
    "depth": (40.0, 20.0),
    "brightness": (58.0, 12.0),
    "roughness": (48.0, 12.0),
    "warmth": (43.0, 10.0),
    "sharpness": (45.0, 15.0),
    "boominess": (25.0, 15.0),
    "reverb": (0.5, 0.5),
}
"""Centre and spread of each feature, round numbers near what music and speech have."""


class TimbralEncoder(Encoder):
    """Audio Commons timbral features -> `[B, 2 F]`: nothing to train, deterministic.

    Each of the F features is standardised, (value - centre) / spread of `SCALES`. An undefined one
    (silence, a clip too short) is 0, the centre, and 1 in the second half of the embedding, which is 0
    elsewhere, so that it cannot be taken for an average value.

    Args:
        features: which, by name; None is all eight.
    """

    name = "timbral-features"

    def __init__(self, features: list[str] | None = None) -> None:
        self.features = checked_names(FEATURES if features is None else features)
        super().__init__(2 * len(self.features), 44_100, normalise=False)

    def config(self) -> dict[str, Any]:
        return {"features": list(self.features)}

    @torch.no_grad()
    def embed(self, audio: Tensor) -> Tensor:
        clips = audio.detach().cpu().double().numpy()[:, None]
        values = timbral_features(clips, self.sample_rate, self.features).values
        centres, spreads = np.array([SCALES[name] for name in self.features]).T
        scaled = np.nan_to_num((values - centres) / spreads)
        both = np.concatenate([scaled, np.isnan(values)], axis=1)
        return torch.from_numpy(both.astype(np.float32)).to(audio.device)
