"""One of two processes of `tests/test_distributed.py`: three steps together, then process 1 fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from dafxhost.errors import RunError
from dafxhost.training.distributed import Group, end, join


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3), nn.Linear(3, 2))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(3, 8, 4, generator=generator), torch.randn(3, 8, 3, generator=generator)


def steps(net: nn.Sequential, share: slice, group: Group | None) -> list[torch.Tensor]:
    """Three steps on rows `share` of each batch; the last layer gets no gradient."""
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    for x, y in zip(*data(), strict=True):
        optimiser.zero_grad()
        nn.functional.mse_loss(net[:3](x[share]), y[share]).backward()
        if group is not None:
            group.average(net)
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimiser.step()
    return [p.detach() for p in net.parameters()]


def main(folder: Path) -> None:
    with join(torch.device("cpu")) as group:
        torch.manual_seed(group.rank)  # other weights in each, until they are made the same
        net = network()
        group.same(net)
        found = steps(net, slice(4 * group.rank, 4 * group.rank + 4), group)
        told = {
            "weights": [p.tolist() for p in found],
            "agreed": group.agree(10 + group.rank),
            "any": [group.any(group.rank == 1), group.any(False)],
        }
        (folder / f"{group.rank}.json").write_text(json.dumps(told))
        if group.rank == 1:
            raise RunError("the plugin fell over")
        group.average(net)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        end(1)
