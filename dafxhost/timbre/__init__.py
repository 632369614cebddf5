"""Audio Commons timbral features: hardness, depth, brightness, roughness, warmth, sharpness, boominess,
reverb.

The models are those of A. Pearce, T. Brookes and R. Mason (Audio Commons, University of Surrey,
deliverables D5.2, D5.6 and D5.8, version 0.4), written anew: numpy and scipy, what several models need made
once, loops over samples replaced by array operations. docs/features.md compares their values and speed with
the reference package's.
"""

from __future__ import annotations

from dafxhost.timbre.features import FEATURES, TimbralFeatures, timbral_features

__all__ = ["FEATURES", "TimbralFeatures", "timbral_features"]
