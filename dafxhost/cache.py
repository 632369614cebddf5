"""Where what can be made again is kept between runs: descriptions of plugins, facts about recordings."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`DAFXHOST_CACHE`, else `dafxhost` in the user's cache folder; it may not exist yet."""
    own = os.environ.get("DAFXHOST_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dafxhost"
