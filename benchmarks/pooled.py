"""What the supervised studies share: one pool of examples an effect, embedded once, and a common judgement.

Controllers are trained on it by cross-entropy with equal numbers of steps and batches, and judged on examples
of other pieces by what their settings do to the sound: mean MR-STFT over that of the input left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dafxhost
from dafxhost.data.examples import Examples
from dafxhost.data.sources import AudioSource, FolderSource, Split
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.training.controller import Controller
from dafxhost.training.pool import Pool, PoolMaker
from dafxhost.training.scoring import score_columns

RATE, SAMPLES = 24000, 131072
BATCH, PEAK_RATE = 64, 2e-3


def audio(folder: str, split: Split) -> AudioSource:
    """A folder's recordings, or pieces of the synthetic corpus."""
    if folder:
        return FolderSource(folder, RATE, split)
    from dafxhost.data.corpus import SyntheticCorpus

    return SyntheticCorpus(RATE, split=split, bank=60 if split == "train" else 20)


class Material:
    """A pool and validation examples of one effect.

    Args:
        embed: clips `[B, 1, T]` -> `[B, D]`, computed once for every example. size: D.
    """

    def __init__(
        self, effect: str, embed: Callable[[Tensor], Tensor], size: int, *, data: str, pool: int,
        validation: int, seed: int,
    ) -> None:  # fmt: skip
        self.effect = dafxhost.effect(effect)
        self._threads = ThreadPoolExecutor(1)
        with dafxhost.Executor(self.effect, workers=1) as executor:
            maker = PoolMaker(
                audio(data, "train"), executor, _Embedder(embed, size), samples=SAMPLES,  # pyright: ignore
                sample_rate=RATE, seed=seed, threads=self._threads,
            )  # fmt: skip
            self.pool: Pool = maker.make(pool, 0.0, lambda done, seconds: None)
            examples = Examples(audio(data, "validation"), executor)
            self.batch = examples.batch(seed + 1, validation)
        clips = [torch.from_numpy(x) for x in (self.batch.dry, self.batch.reference)]
        self.heard = [torch.cat([embed(clip[None]) for clip in part]) for part in clips]

    def ratios(self, ways: dict[str, np.ndarray]) -> dict[str, float]:
        """Settings `[N, P]` by name -> mean MR-STFT over that of the input left alone; failed renders count
        for nothing.
        """
        columns = np.stack(list(ways.values()), axis=1)
        with dafxhost.Executor(self.effect, workers=1) as executor:
            scores = score_columns(
                self.batch, columns, executor, MultiResolutionSTFT(), RATE, self._threads, untouched=True
            )
        means = np.nanmean(scores, axis=0)
        return {name: float(means[i] / means[-1]) for i, name in enumerate(ways)}

    def baselines(self, seed: int) -> dict[str, np.ndarray]:
        """Settings that know nothing of the reference."""
        n, p = self.batch.settings.shape
        return {
            "random setting": np.random.default_rng(seed).random((n, p)),
            "middle of every range": np.full((n, p), 0.5),
        }


class _Embedder:
    """As much of a controller as `PoolMaker` needs."""

    def __init__(self, embed: Callable[[Tensor], Tensor], size: int) -> None:
        self._embed = embed
        self.encoder = type("Size", (), {"embedding_size": size})()

    def embed(self, audio: Tensor, sample_rate: int) -> Tensor:
        return self._embed(audio)


Forward = Callable[[Tensor, Tensor], Tensor]


def train(
    parts: Sequence[tuple[Controller, Forward, Pool]], weights: Sequence[torch.nn.Parameter], steps: int,
    seed: int,
) -> None:  # fmt: skip
    """Train controllers by turns, `steps` batches each, with one optimiser of all `weights`.

    `forward(dry, reference)` gives a controller's logits of pool entries.
    """
    optimiser = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps, pct_start=0.05)
    torch.manual_seed(seed)
    for step in range(steps):
        for number, (controller, forward, pool) in enumerate(parts):
            controller.train()
            rows = torch.from_numpy(np.random.default_rng([seed, step, number]).integers(0, len(pool), BATCH))
            logits = forward(pool.dry[pool.clip[rows]].float(), pool.reference[rows].float())
            loss = controller.supervised_loss(logits, pool.settings[rows])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
        schedule.step()


@torch.no_grad()
def answer(controller: Controller, forward: Forward, heard: Sequence[Tensor]) -> np.ndarray:
    """Settings `[N, P]` for the validation examples."""
    controller.eval()
    return controller.decode(forward(heard[0], heard[1])).double().numpy()


def table(rows: dict[str, dict[str, float]]) -> str:
    """Way -> effect -> ratio, as Markdown with the geometric mean over the effects."""
    effects = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(effects) + " | geometric mean |", "|---|" + "---|" * (len(effects) + 1)]
    for way, by_effect in rows.items():
        cells = [by_effect[e] for e in effects]
        mean = float(np.exp(np.mean(np.log(cells))))
        lines.append(f"| {way} | " + " | ".join(f"{c:.3f}" for c in cells) + f" | {mean:.3f} |")
    return "\n".join(lines)


def arguments_of(parser: Any) -> Any:
    """Options that the studies share."""
    parser.add_argument("--data", default="", help="folder of audio instead of the synthetic corpus")
    parser.add_argument("--pool", type=int, default=1024, help="examples of each effect")
    parser.add_argument("--steps", type=int, default=1000, help="of each controller")
    parser.add_argument("--validation", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    return parser.parse_args()
