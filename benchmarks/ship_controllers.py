"""Put trained runs into the package, so that `dafxhost transfer --effect NAME` needs no training.

    python benchmarks/ship_controllers.py RUN [RUN ...]

Copies the best checkpoint of each (as float16, which halves it), the log and the config to
dafxhost/controllers/EFFECT. What the runs were trained by stands in the config; `dafxhost evaluate EFFECT`
measures the copies.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import safetensors.torch
import torch

from dafxhost.run_folders import CONFIG, CONTROLLERS, LOG
from dafxhost.training.config import TrainConfig


def ship(run: Path, folder: Path = CONTROLLERS) -> Path:
    """Copy one run. Returns where it lies now."""
    card = json.loads((run / "best.json").read_text(encoding="utf-8"))
    target = folder / card["effect"]
    target.mkdir(parents=True, exist_ok=True)
    tensors = safetensors.torch.load_file(run / "best.safetensors")
    small = {k: v.half() if v.dtype == torch.float32 else v for k, v in tensors.items()}
    wrong = [k for k, v in small.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if wrong:
        raise SystemExit(f"{run}: {wrong[0]} has values that float16 does not hold")
    data = safetensors.torch.save(small)
    (target / "best.safetensors").write_bytes(data)
    card["weights_sha256"] = hashlib.sha256(data).hexdigest()
    (target / "best.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    shutil.copy(run / LOG, target / LOG)
    kept = TrainConfig.from_toml(run / CONFIG)
    # Elsewhere neither the folder of recordings lies in the same place, nor the pool that was used again.
    kept = kept.replace(
        data=f"../shared/audio/{Path(kept.data).name}", pool=card["figures"]["pool"], pool_from=""
    )
    (target / CONFIG).write_text(kept.to_toml(), encoding="utf-8")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description="Put trained runs into the package.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for run in parser.parse_args().runs:
        target = ship(run)
        size = sum(p.stat().st_size for p in target.iterdir())
        print(f"{target}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
