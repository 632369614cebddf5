"""Can active units tune the latent size? Spectrogram VAEs of several sizes and betas, trained alike.

    python benchmarks/latent_size.py       (synthetic corpus; half a minute a model)
    python benchmarks/latent_size.py --linear --steps 4000 --sizes 4 8 16 32 64 128
    python benchmarks/latent_size.py --data ../shared/audio/train --test ../shared/audio/test

Every model sees the same fixed spectrogram patches in the same order for the same number of steps, and is
measured on patches of other recordings. beta rises to its value over the first half, without which the larger
ones never get going. "directions above beta/2" is what a linear VAE would keep: principal components of the
training patches whose variance is above the threshold (docs/analysis.md derives it).
Results go to stdout, as Markdown or with --json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dafxhost.analysis.latents import CARRYING, study
from dafxhost.analysis.observing import find_effects, observe
from dafxhost.analysis.reconstruction import Reconstructor
from dafxhost.data.corpus import SyntheticCorpus
from dafxhost.data.sources import AudioSource, FolderSource
from dafxhost_encoders.spectrogram_vae import SpectrogramVAE

RATE = 24000
MODEL = {
    "n_fft": 512,
    "hop": 512,
    "channels": (8, 16, 32),
    "kernels": [[5, 3], 3, 3],
    "strides": [[4, 2], 2, 2],
}
"""A small one, 257 bins by 32 frames (0.7 s), so that many can be trained."""


def patches(source: AudioSource, examples: int, seed: int) -> Tensor:
    """Compressed spectrograms `[M, bins, frames]` of clips of `source` through each effect."""
    effects, notes = find_effects(None)
    for note in notes:
        print(note, file=sys.stderr)
    encoder = SpectrogramVAE(**MODEL).eval()
    seen = observe(
        encoder, effects, source, examples, sample_rate=RATE, seed=seed, reconstructor=Reconstructor(encoder)
    )
    return seen.pictures


def trained(
    train: Tensor, size: int, beta: float, steps: int, seed: int, rate: float = 2e-3
) -> SpectrogramVAE:
    """A VAE after so many steps of 32 patches; the learning rate rises over 20 steps, then falls to 0."""
    torch.manual_seed(seed)
    encoder = SpectrogramVAE(embedding_size=size, beta=beta, **MODEL)
    encoder.fit_scale(train)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=rate)
    rng = np.random.default_rng(seed)
    encoder.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * (1 - step / steps)
        encoder.beta = beta * min(1.0, 2 * step / steps)
        total, _, _ = encoder.loss(train[torch.from_numpy(rng.permutation(len(train))[:32])])
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
    encoder.beta = beta
    return encoder.eval()


def explained(encoder: SpectrogramVAE, test: Tensor) -> float:
    """Share of the variance about the mean spectrum of the test patches."""
    error = Reconstructor(encoder).reconstruct(test) - test
    return 1 - float(error.square().sum() / (test - test.mean(dim=(0, 2), keepdim=True)).square().sum())


def principal(train: Tensor, encoder: SpectrogramVAE) -> np.ndarray:
    """Variances along the principal components of the patches as the network sees them, largest first."""
    rows = ((train - encoder.centre[:, None]) / encoder.spread).flatten(1).double()
    rows = rows - rows.mean(dim=0)
    return (torch.linalg.eigvalsh(rows @ rows.T).flip(0) / len(rows)).numpy()


def linear(rows: Tensor, size: int, beta: float, steps: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A linear VAE of rows `[n, k]`: (encoder `[k, size]`, decoder `[size, k]`, log variances `[size]`)."""
    torch.manual_seed(seed)
    encoder = (0.1 / rows.std() * torch.randn(rows.shape[1], size) / rows.shape[1] ** 0.5).requires_grad_()
    decoder = (0.1 * rows.std() * torch.randn(size, rows.shape[1])).requires_grad_()
    log_variance = torch.zeros(size, requires_grad=True)
    optimiser = torch.optim.Adam([encoder, decoder, log_variance], lr=1e-2)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        chosen = rows[torch.randint(len(rows), (128,))]
        mean = chosen @ encoder
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        nats = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1).mean()
        loss = (latents @ decoder - chosen).square().sum(dim=1).mean() + beta * nats
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return encoder.detach(), decoder.detach(), log_variance.detach()


def linear_rows(train: Tensor, test: Tensor, options: argparse.Namespace) -> list[dict[str, float]]:
    """The same question asked of linear VAEs, which are trained to their optimum in seconds."""
    scale = SpectrogramVAE(**MODEL)
    scale.fit_scale(train)
    a, b = (((x - scale.centre[:, None]) / scale.spread).flatten(1) for x in (train, test))
    middle = a.mean(dim=0)
    _, _, axes = torch.linalg.svd(a - middle, full_matrices=False)
    axes = axes[:400]  # what lies outside is noise to any of them
    a, outside = (a - middle) @ axes.T, (b - middle).square().sum() - ((b - middle) @ axes.T).square().sum()
    b = (b - middle) @ axes.T
    variances, unit = a.var(dim=0, correction=0), 10.0
    out = []
    for beta in options.betas:
        for size in options.sizes:
            down, up, log_variance = linear(a / unit, size, beta / unit**2, options.steps, options.seed)
            mean = b / unit @ down
            error = (unit * mean @ up - b).square().sum() + outside
            spread = (a / unit @ down).var(dim=0, correction=0)
            nats = 0.5 * ((a / unit @ down).square().mean(dim=0) + log_variance.exp() - log_variance - 1)
            row = {
                "beta": beta,
                "size": size,
                "directions": int((variances > beta / 2).sum()),
                "active": int((spread > 0.01).sum()),
                "carrying": int((nats > CARRYING).sum()),
                "carry_99_percent": 0,
                "nats": float(nats.sum()),
                "explained": 1 - float(error / (b.square().sum() + outside)),
            }
            print(json.dumps(row), file=sys.stderr, flush=True)
            out.append(row)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder to train on; else the synthetic corpus")
    parser.add_argument("--test", type=Path, help="folder to measure on")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--betas", type=float, nargs="+", default=[16, 64, 256])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--examples", type=int, default=40, help="clips an effect to train on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--linear", action="store_true", help="linear VAEs; give some 4000 steps")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sources: list[AudioSource] = [
        FolderSource(folder, RATE) if folder else SyntheticCorpus(RATE, options.seed, split, bank=bank)
        for folder, split, bank in ((options.data, "train", 40), (options.test, "validation", 12))
    ]  # fmt: skip
    train, test = (
        patches(sources[0], options.examples, 1),
        patches(sources[1], max(2, options.examples // 4), 2),
    )
    print(f"{len(train)} patches to train on, {len(test)} to measure on", file=sys.stderr)
    rows = linear_rows(train, test, options) if options.linear else []
    for beta in () if options.linear else options.betas:
        for size in options.sizes:
            began = time.monotonic()
            encoder = trained(train, size, beta, options.steps, options.seed)
            found = study(Reconstructor(encoder), test)
            row = {
                "beta": beta,
                "size": size,
                "directions": int((principal(train, encoder) > beta / 2).sum()),
                "active": found.active,
                "carrying": found.carrying,
                "carry_99_percent": found.recommended,
                "nats": float(found.divergence.sum()),
                "explained_train": explained(encoder, train[:400]),
                "explained": explained(encoder, test),
                "seconds": round(time.monotonic() - began, 1),
            }
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print("| beta | size | directions above beta/2 | active | above 0.1 nats | nats | explained, unseen |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for r in rows:
        cells = (f"{r['beta']:g}", r["size"], r["directions"], r["active"], r["carrying"])
        print("|", " | ".join(map(str, cells)), f"| {r['nats']:.0f} | {r['explained']:.3f} |")


if __name__ == "__main__":
    main()
