"""One controller for several effects beside one for each, with equal examples and steps for every effect.

    python benchmarks/one_for_many.py --effects mda-overdrive mda-combo mda-multiband --json FILE

Both are supervised on the same pools (see `pooled`). The one for all shares body and standardisation
(`dafxhost.training.many.share`) and is trained by turns. Figures are mean MR-STFT over that of the input left
alone, on pieces that none was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch
from measure import machine, say
from pooled import RATE, Material, answer, arguments_of, table, train
from torch import Tensor

from dafxhost.registry import encoder as make_encoder
from dafxhost.training import many
from dafxhost.training.controller import Controller

LAYERS = {"hidden": 512, "depth": 3, "dropout": 0.1}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--effects", nargs="+", default=["mda-overdrive", "mda-combo", "mda-multiband"])
    options = arguments_of(parser)
    torch.set_num_threads(1)
    encoder = make_encoder("style-statistics")

    @torch.no_grad()
    def embed(clips: Tensor) -> Tensor:
        return encoder(clips, RATE)

    materials = []
    for name in options.effects:
        say(f"{name}: {options.pool} examples ...")
        materials.append(
            Material(
                name, embed, encoder.embedding_size, data=options.data, pool=options.pool,
                validation=options.validation, seed=options.seed,
            )
        )  # fmt: skip
    ways = [m.baselines(options.seed) for m in materials]
    for way in ("one each", "one for all"):
        torch.manual_seed(options.seed)
        controllers = [Controller(encoder, m.effect.parameters, **LAYERS) for m in materials]
        parts = [(c, c, m.pool) for c, m in zip(controllers, materials, strict=True)]
        for c, m in zip(controllers, materials, strict=True):
            c.standardise(torch.cat([m.pool.dry, m.pool.reference]).float())
        if way == "one each":
            for part in parts:
                train([part], list(part[0].parameters()), options.steps, options.seed)
        else:
            many.share(controllers)
            everything = [x for m in materials for x in (m.pool.dry, m.pool.reference)]
            controllers[0].standardise(torch.cat(everything).float())
            train(parts, many.shared_weights(controllers), options.steps, options.seed)
        for c, m, own in zip(controllers, materials, ways, strict=True):
            own[way] = answer(c, c, m.heard)
        say(f"{way}: trained")
    found = {m.effect.name: m.ratios(own) for m, own in zip(materials, ways, strict=True)}
    rows = {way: {name: found[name][way] for name in found} for way in next(iter(found.values()))}
    print(table(rows))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"about": vars(options), "machine": machine(), "rows": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
