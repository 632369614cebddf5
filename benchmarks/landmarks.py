"""What landmarks and signatures add to a controller: answers with and without them, side by side, on the
same examples.

    python benchmarks/landmarks.py mda-ringmod --data ../shared/audio/test [--examples 200] [--certain 0.2]

For each parameter that a landmark can locate: in how many examples it did, in how many of these the landmark
lies where the true setting puts it (or where it puts another one: an echo taken for the other), and the
median error of the parameter then, beside the controller's own. Of one that a signature locates: in how many
it lies within two steps of the table. Then the MR-STFT distance to the target over
the input left alone, without them and with them. `--certain` tries other probabilities from which on a
peak decides. `--validation` draws from the recordings of the folder that training kept back.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import dafxhost
from dafxhost.data.examples import ExampleBatch, Examples
from dafxhost.data.features import normalise_peak
from dafxhost.data.sources import FolderSource
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.run_folders import find_run
from dafxhost.training import landmarks
from dafxhost.training.runs import Run, load_run
from dafxhost.training.signatures import GRID


def distances(executor: dafxhost.Executor, made: ExampleBatch, settings: np.ndarray, rate: int) -> np.ndarray:
    """`[N]`, MR-STFT of what settings `[N, P]` make of the inputs, against the targets."""
    loss = MultiResolutionSTFT()
    wet = executor.render(made.dry, settings[:, None], rate)
    rows = []
    for one, target in zip(wet, made.target, strict=True):
        heard = torch.from_numpy(normalise_peak(np.asarray(one)))
        rows.append(float(loss.distance(heard[None], loss.prepare(torch.from_numpy(target)[None]))))
    return np.array(rows)


def untouched(made: ExampleBatch) -> np.ndarray:
    loss = MultiResolutionSTFT()
    return np.array([
        float(loss.distance(torch.from_numpy(a)[None, None], loss.prepare(torch.from_numpy(b)[None])))
        for a, b in zip(made.dry, made.target, strict=True)
    ])  # fmt: skip


@torch.no_grad()
def hear(run: Run, made: ExampleBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, and embeddings of inputs and references, of all examples."""
    pairs = [run.embed_pairs([a], [b]) for a, b in zip(made.dry, made.reference, strict=True)]
    dry, reference = (torch.cat(part) for part in zip(*pairs, strict=True))
    return run.logits(dry, reference), dry, reference


def located(run: Run, made: ExampleBatch, plain: Tensor, answer: Tensor, put: Tensor) -> None:
    """Print a row for each parameter that landmarks locate."""
    found = run.controller.landmarks
    true = torch.from_numpy(made.settings)
    if run.controller.signatures is not None:
        signed(run, made, plain, answer, put)
    if found is None:
        return
    where = {k: (found.positions(k, answer.double()), found.positions(k, true)) for k in range(len(found))}
    applied = torch.from_numpy(made.applied)
    for j in dict.fromkeys(found.main.tolist()):
        mine = [k for k in where if int(found.main[k]) == j]
        some = put[:, j] & applied
        own = (where[mine[0]][0] - where[mine[0]][1]).abs() < 4 * found.tolerance[mine[0]]
        other = torch.stack([(where[mine[0]][0] - at).abs() < 4 for _, at in where.values()]).any(dim=0)
        error = [(x[some, j] - true[some, j]).abs().median() for x in (answer, plain)]
        print(
            f"| {run.parameters[j].name} | {int(some.sum())} of {int(applied.sum())} "
            f"| {float(own[some].double().mean()):.2f} | {float(other[some].double().mean()):.2f} "
            f"| {float(error[0]):.4f} | {float(error[1]):.4f} |"
        )


def signed(run: Run, made: ExampleBatch, plain: Tensor, answer: Tensor, put: Tensor) -> None:
    """Print a row for each parameter that signatures locate."""
    assert run.controller.signatures is not None
    true, applied = torch.from_numpy(made.settings), torch.from_numpy(made.applied)
    for j in run.controller.signatures.main.tolist():
        some = put[:, j] & applied
        error = [(x[some, j] - true[some, j]).abs() for x in (answer, plain)]
        near = float((error[0] < 2 / GRID).double().mean())
        print(
            f"| {run.parameters[j].name} | {int(some.sum())} of {int(applied.sum())} | {near:.2f} "
            f"| {near:.2f} | {float(error[0].median()):.4f} | {float(error[1].median()):.4f} |"
        )
        print(f"(and in {int((put[:, j] & ~applied).sum())} of {int((~applied).sum())} without the effect)")


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers with and without landmarks.")
    parser.add_argument("run", help="a run folder, or the name of an effect")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--certain", type=float, nargs="+", default=[landmarks.CERTAIN])
    parser.add_argument("--validation", action="store_true", help="only recordings that training kept back")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.run)
    run = load_run(folder if folder.is_dir() else find_run(options.run))
    if run.controller.landmarks is None and run.controller.signatures is None:
        raise SystemExit(f"{run.path} has neither landmarks nor signatures")
    with dafxhost.Executor(dafxhost.effect(run.where)) as executor:
        source = FolderSource(options.data, run.sample_rate, "validation" if options.validation else "all")
        made = Examples(source, executor, sample_rate=run.sample_rate, samples=run.samples).batch(
            options.seed, options.examples
        )
        logits, dry, reference = hear(run, made)
        plain = run.controller.decode(logits).double()
        alone = untouched(made).mean()
        without = distances(executor, made, plain.numpy(), run.sample_rate).mean()
        for landmarks.CERTAIN in options.certain:
            answer, put = run.controller.settle(logits, dry, reference)
            print(f"\nfrom {landmarks.CERTAIN:g} on\n")
            print("| parameter | located | there | at any | median error | the controller's |")
            print("|---|---|---|---|---|---|")
            located(run, made, plain, answer.double(), put)
            score = distances(executor, made, answer.double().numpy(), run.sample_rate).mean()
            print(f"\n{run.where} over the input alone: {without / alone:.3f}, so {score / alone:.3f}")


if __name__ == "__main__":
    main()
