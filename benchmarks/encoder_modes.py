"""Should the encoder be frozen, fine-tuned or trained from scratch beside the controller?

    python benchmarks/encoder_modes.py --effects mda-combo mda-delay --json FILE

Four ways, with the same examples, steps and controller layers, supervised (see `pooled`): fixed style
statistics; the shipped effect encoder frozen; the same fine-tuned; the same architecture from scratch. The
effect encoder is a network on fixed features; these are computed once an example, so all ways cost little.
Figures are mean MR-STFT over that of the input left alone, on pieces that none was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from measure import machine, say
from pooled import RATE, Forward, Material, answer, arguments_of, table, train
from torch import Tensor

from dafxhost.encoders import load_encoder
from dafxhost.registry import encoder as make_encoder
from dafxhost.training.controller import Controller
from dafxhost_encoders.effect_encoder import EffectEncoder
from dafxhost_encoders.pretrained import SHIPPED

LAYERS = {"hidden": 512, "depth": 3, "dropout": 0.1}


def on_features(controller: Controller, start: int) -> Forward:
    """The controller on pool entries whose columns from `start` on are the effect encoder's features."""
    encoder = controller.encoder
    assert isinstance(encoder, EffectEncoder)

    def forward(dry: Tensor, reference: Tensor) -> Tensor:
        both = encoder.from_features(torch.cat([dry, reference])[:, start:])
        return controller(*both.chunk(2))

    return forward


def study(name: str, options: argparse.Namespace) -> dict[str, float]:
    statistics = make_encoder("style-statistics")
    features = EffectEncoder().features
    split = statistics.embedding_size

    @torch.no_grad()
    def embed(clips: Tensor) -> Tensor:
        probe = EffectEncoder.prepare(listener, clips, RATE)
        return torch.cat([statistics(clips, RATE), features(probe)], dim=1)

    listener = EffectEncoder()
    material = Material(
        name, embed, split + features.size, data=options.data, pool=options.pool,
        validation=options.validation, seed=options.seed,
    )  # fmt: skip
    pool = material.pool
    together = torch.cat([pool.dry, pool.reference]).float()
    ways = material.baselines(options.seed)
    for way in ("style statistics", "frozen", "fine-tuned", "from scratch"):
        start = time.monotonic()
        torch.manual_seed(options.seed)
        if way == "style statistics":
            controller = Controller(statistics, material.effect.parameters, **LAYERS)
            controller.standardise(together[:, :split])

            def forward(dry: Tensor, reference: Tensor, c: Controller = controller) -> Tensor:
                return c(dry[:, :split], reference[:, :split])
        else:
            encoder = EffectEncoder() if way == "from scratch" else load_encoder(SHIPPED)
            assert isinstance(encoder, EffectEncoder)
            if way == "from scratch":
                encoder.standardise(together[:, split:])
            if way == "frozen":
                encoder.freeze()
            controller = Controller(encoder, material.effect.parameters, **LAYERS)
            with torch.no_grad():
                controller.standardise(encoder.eval().from_features(together[:, split:]))
            forward = on_features(controller, split)
        weights = [p for p in controller.parameters() if p.requires_grad]
        train([(controller, forward, pool)], weights, options.steps, options.seed)
        ways[way] = answer(controller, forward, material.heard)
        say(f"{name}, {way}: {time.monotonic() - start:.0f} s")
    return material.ratios(ways)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--effects", nargs="+", default=["mda-combo", "mda-delay"])
    options = arguments_of(parser)
    torch.set_num_threads(1)
    found = {name: study(name, options) for name in options.effects}
    rows = {way: {name: found[name][way] for name in found} for way in next(iter(found.values()))}
    print(table(rows))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"about": vars(options), "machine": machine(), "rows": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
