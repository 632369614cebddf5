"""Train the controllers that come with dafxhost, a run an effect; docs/controllers.md says what they reach.

    python benchmarks/train_controllers.py --data ../shared/audio/train [--effects mda-combo ...] [--ship]

Runs go to --runs, a folder an effect. --ship puts them into the package (`ship_controllers`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ship_controllers import ship

from dafxhost.training.config import TrainConfig
from dafxhost.training.trainer import train

RECIPE: dict[str, Any] = {
    "encoder": "effect-features",
    "encoder_options": {"columns": 768},
    "hidden": 256,
    "dropout": 0.4,
    "sharpness": 2.0,
    "pool": 8192,
    "supervised_steps": 300,
    "anchor": 0.003,
    "proxy_clips": 300,
    "proxy_steps": 300,
    "proxy_rate": 1e-3,
    "proxy_epoch": 75,
    "end_to_end_steps": 40,
    "epoch_steps": 20,
    "step": 0.1,
    "rate": 2e-4,
    "validation": 160,
    "max_minutes": 120.0,
}
SMALL = {
    "encoder_options": {"columns": 256},
    "hidden": 64,
    "depth": 1,
    "dropout": 0.5,
    "weight_decay": 0.3,
    "supervised_steps": 100,
}
ROOM = {**SMALL, "encoder_options": {"columns": 256, "cepstrum": True}, "hidden": 128, "pool": 10240}
"""For steady filters of which a parameter changes everything: a room's size."""
PLACED = {"encoder_options": {"columns": 768, "peaks": True}}
"""For effects that put something at a place that can be measured."""
PLAIN: dict[str, Any] = {"hidden": 384, "pool_share": 0.4, "validation": 160, "max_minutes": 16.0}
"""The command's own defaults, for longer: the default encoder is cheap, which pays for 20,000 examples."""
SOFT: dict[str, Any] = {
    **PLAIN,
    **{name: RECIPE[name] for name in ("sharpness", "anchor", "proxy_rate", "step", "rate")},
    "supervised_steps": 2000, "proxy_clips": 400, "proxy_steps": 400, "proxy_epoch": 100,
}  # fmt: skip
EFFECTS: dict[str, dict[str, Any]] = {
    "mda-overdrive": {"supervised_steps": 500},
    "mda-combo": PLAIN,
    "mda-multiband": SOFT,
    "mda-ringmod": {**PLACED, "pool": 16384},
    "mda-delay": {**PLACED, "pool": 12288},
    "mda-thruzero": {},
    "mda-leslie": {},
    "mda-dynamics": SOFT,
    "mda-ambience": ROOM,
}


def show(event: dict[str, Any]) -> None:
    if event["event"] == "epoch":
        ratio = event["validation"] / event["untouched"]
        print(f"  {event['phase']} {event['step']}: {ratio:.3f} of the input left alone", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the controllers that come with dafxhost.")
    parser.add_argument("--data", default="", help="folder of recordings; without it the synthetic corpus")
    parser.add_argument("--effects", nargs="+", default=list(EFFECTS), choices=list(EFFECTS), metavar="NAME")
    parser.add_argument("--runs", type=Path, default=Path("runs/controllers"))
    parser.add_argument("--ship", action="store_true", help="put them into the package")
    options = parser.parse_args()
    for effect in options.effects:
        print(effect, flush=True)
        own = EFFECTS[effect]
        shared = {} if own in (PLAIN, SOFT) else RECIPE
        config = TrainConfig().replace(**{**shared, **own, "effect": effect, "data": options.data})
        done = train(config, run_dir=options.runs / effect, on_event=show)
        print(f"  {done.run}: {done.validation / done.untouched:.3f}", flush=True)
        if options.ship:
            print(f"  {ship(done.run)}")


if __name__ == "__main__":
    main()
