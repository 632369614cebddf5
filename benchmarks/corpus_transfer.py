"""How much worse is a controller that never heard a recording? mda-combo trained on kinds of audio, alike.

    python benchmarks/corpus_transfer.py --train ../shared/audio/train --test ../shared/audio/test
    python benchmarks/corpus_transfer.py ... --baseline COMMIT        (also the corpus of that commit)

Trained on: the built-in corpus; the recordings of --train alone; both (40 % synthetic). Everything else is
the same: the size of the pool, the steps, the seed. Each is then measured by `dafxhost evaluate` on the
recordings of --test, and those that heard no recording also on --train, by which a corpus may be chosen.
The work is fixed at about a minute of one core an arm: all are worse than controllers trained in earnest.
Results go to stdout, as Markdown or with --json; runs stay in --runs and are not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
ARMS = ["corpus", "corpus before", "recordings", "recordings and corpus"]
ROOMS = ("", "effects", "encoders", "cli")
WORK = {
    "effect": "mda-combo",
    "end_to_end_steps": 1,
    "epoch_steps": 1,
    "validation": 16,
    "max_minutes": 120.0,
    "corpus_bank": 120,
}


@dataclass(frozen=True)
class Arm:
    """A way to train: its name, the recordings, the synthetic share beside them, and whose code."""

    name: str
    data: str
    share: float
    code: Path

    @property
    def synthetic(self) -> bool:
        return not self.data


def dafxhost(code: Path, *words: object) -> Any:
    """The JSON that a command prints, run with the packages under `code`."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(code / room) for room in ROOMS),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "dafxhost_cli.main", *map(str, words), "--json"]
    # There, because -m looks for packages in the current folder first.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=code)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def run(arm: Arm, options: argparse.Namespace) -> dict[str, Any]:
    """Train one arm, unless its run is there, and measure it."""
    found: dict[str, Any] = {}
    for seed in range(options.seeds):
        folder = options.runs / f"{arm.name.replace(' ', '-')}-{seed}"
        trained = folder / "trained"
        if not trained.exists():
            values = {
                **WORK,
                "data": arm.data,
                "corpus_share": arm.share,
                "pool": options.pool,
                "supervised_steps": options.steps,
                "seed": seed,
                "workers": options.workers,
            }
            config = options.runs / f"{folder.name}.toml"
            config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
            begun = (folder / "state.safetensors").exists()
            how = ("--resume", folder) if begun else ("--config", config, "--run-dir", folder)
            dafxhost(arm.code, "train", *how)
            trained.touch()
        where = {"train": options.train} if arm.synthetic else {}
        if not options.only_train:
            where["test"] = options.test
        for name, data in where.items():
            kept = folder / f"evaluated-{name}-{options.examples}.json"
            if not kept.exists():
                # The code at hand measures them all, whatever trained them.
                answer = dafxhost(
                    HERE, "evaluate", folder, "--data", data, "--examples", options.examples,
                    "--seed", 1, "--workers", options.workers,
                )  # fmt: skip
                kept.write_text(json.dumps(answer))
            found.setdefault(name, []).append(json.loads(kept.read_text()))
    return found


def ratios(evaluations: list[dict[str, Any]]) -> str:
    """ "0.310 (0.290 to 0.330)" of each seed."""
    said = []
    for evaluation in evaluations:
        row = next(row for row in evaluation["rows"] if row["name"] == "controller")
        said.append(f"{row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})")
    return "; ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="recordings to train on")
    parser.add_argument("--test", type=Path, required=True, help="recordings to measure on")
    parser.add_argument("--baseline", metavar="COMMIT", help="also train on the corpus of this commit")
    parser.add_argument("--pool", type=int, default=2048, help="supervised examples")
    parser.add_argument(
        "--steps", type=int, default=600, help="of the supervised phase; end to end there is one"
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each arm")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="arms at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/corpus-transfer"))
    parser.add_argument("--only-train", action="store_true", help="measure on --train only (choosing)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in ("train", "test", "runs"):
        setattr(options, name, getattr(options, name).resolve())
    options.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data = str(options.train)
        arms = [
            Arm("corpus", "", 0.0, HERE),
            Arm("recordings", data, 0.0, HERE),
            Arm("recordings and corpus", data, 0.4, HERE),
        ]
        if options.baseline:
            packed = subprocess.run(
                ["git", "archive", options.baseline], cwd=HERE, check=True, capture_output=True
            )
            subprocess.run(["tar", "x", "-C", folder], input=packed.stdout, check=True)
            arms.append(Arm("corpus before", "", 0.0, Path(folder)))
        arms = [arm for arm in arms if arm.name in options.arms]
        with ThreadPoolExecutor(options.jobs) as threads:
            results = dict(
                zip((a.name for a in arms), threads.map(lambda arm: run(arm, options), arms), strict=True)
            )
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print("| trained on | ratio on --test (95 %) | ratio on --train (95 %) |\n|---|---|---|")
    for name, found in results.items():
        print(f"| {name} | {ratios(found.get('test', []))} | {ratios(found.get('train', []))} |")


if __name__ == "__main__":
    main()
