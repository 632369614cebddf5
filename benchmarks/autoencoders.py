"""How well the autoencoders rebuild recordings that they have not heard, and what an epoch costs.

    python benchmarks/autoencoders.py --data ../shared/audio/train --test ../shared/audio/test
    python benchmarks/autoencoders.py --data ... --test ... --only mel-cae speed

Each model is trained on --data as `dafxhost pretrain` does it (a part of the recordings is held out there,
to choose the best weights), and measured on --test: clips of 5 s through the six effects it was trained over,
and through three that it was not. Explained is 1 - error / error of the best constant; "beyond the mean" has
the mean spectrum, or the mean embedding, in the constant's place. Weights go to --out; those found there are
measured without training. Results go to stdout, as Markdown or with --json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from measure import busy_cores, cores, machine

from dafxhost.data.sources import FolderSource
from dafxhost.encoders import load_encoder, weights_paths
from dafxhost_encoders.autoencoder import Autoencoder, measure
from dafxhost_encoders.effect_clips import EffectClips
from dafxhost_encoders.epochs import make_epoch
from dafxhost_encoders.pretrain import Plan, pretrain
from dafxhost_encoders.spectrogram_vae import SpectrogramVAE
from dafxhost_encoders.trainables import EFFECTS, PretrainJob, trainable

HELD_OUT_EFFECTS = ("mda-leslie", "mda-combo", "mda-subsynth")
PAIRS = {"examples": 250, "max_epochs": 80}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "spectrogram-vae": ("spectrogram-vae", {"max_epochs": 16}),
    "spectrogram-vae-16-frames": ("spectrogram-vae", {"frames": 16, "max_epochs": 36}),
    "spectrogram-vae-stft": ("spectrogram-vae", {"input": "stft", "examples": 40, "max_epochs": 20}),
    "mel-cae": ("mel-cae", {"max_epochs": 16}),
    **{
        f"embedding-vae-{join}-{latent}": ("embedding-vae", {"join": join, "latent": latent, **PAIRS})
        for join in ("concat", "difference")
        for latent in (64, 256)
    },
}
RATE = 24_000
SPEED = "speed"
SPEED_EPOCHS = 4


def train(name: str, data: Path, out: Path, max_minutes: float, seed: int) -> dict[str, Any]:
    """The figures of one training, as `dafxhost pretrain --json` prints them."""
    encoder, options = MODELS[name]
    job = PretrainJob(out, data, max_minutes=max_minutes, seed=seed, options=options)
    return trainable(encoder).train(job)


def test(encoders: dict[str, Autoencoder], folder: Path, examples: int) -> dict[str, Any]:
    """`Quality` of each on the same clips of `folder`, through either group of effects."""
    out: dict[str, Any] = {name: {} for name in encoders}
    source = FolderSource(folder, RATE)
    for key, effects in (("unseen_recordings", EFFECTS), ("and_effects", HELD_OUT_EFFECTS)):
        with EffectClips(source, effects, sample_rate=RATE) as clips:
            for name, encoder in encoders.items():
                quality = measure(encoder, make_epoch(clips, encoder, examples, (12345,)).inputs)
                out[name][key] = dict(vars(quality))
    return out


def speed(data: Path) -> dict[str, Any]:
    """What an epoch of 250 new training examples and 25 held-out ones costs, rendered while it trains."""
    source = FolderSource(data, RATE)
    torch.manual_seed(1)
    # As `dafxhost pretrain spectrogram-vae` makes it.
    encoder = SpectrogramVAE(input="mel", patch_frames=8, channels=(16, 32), beta=0.02)
    busy = busy_cores()
    marks: list[tuple[int, float, float]] = []

    def note(step: dict[str, Any]) -> None:
        if not marks or step["epoch"] != marks[-1][0]:
            marks.append((step["epoch"], time.perf_counter(), processor_seconds()))

    plan = Plan(max_epochs=SPEED_EPOCHS, renew=1)
    with EffectClips(source, EFFECTS) as clips, tempfile.TemporaryDirectory() as folder:
        done = pretrain(encoder, clips, clips, Path(folder) / "vae", plan, on_step=note)
    # The first epoch pays for the start of the plugins.
    spans = len(marks) - 2
    return {
        "examples_an_epoch": done["examples_an_epoch"],
        "seconds_an_epoch": (marks[-1][1] - marks[1][1]) / spans,
        "processor_seconds_an_epoch": (marks[-1][2] - marks[1][2]) / spans,
        "cores": cores(),
        "cores_busy_with_others": busy,
    }


def processor_seconds() -> float:
    """Of this process and of the plugins' workers, so far."""
    me = psutil.Process()
    times = [me.cpu_times()]
    for child in me.children(recursive=True):
        try:
            times.append(child.cpu_times())
        except psutil.NoSuchProcess:
            continue
    return sum(t.user + t.system for t in times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder to train on")
    parser.add_argument("--test", type=Path, required=True, help="folder to measure on")
    parser.add_argument("--only", nargs="+", choices=[*MODELS, SPEED], default=[*MODELS, SPEED])
    parser.add_argument("--out", type=Path, help="folder of the weights [default: a temporary one]")
    parser.add_argument("--max-minutes", type=float, default=30.0, help="of one training")
    parser.add_argument("--examples", type=int, default=96, help="clips to measure on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done: dict[str, Any] = {"machine": machine(), "models": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        encoders: dict[str, Autoencoder] = {}
        for name in (n for n in options.only if n != SPEED):
            if not weights_paths(folder / name)[0].exists():
                print(f"training {name}", file=sys.stderr)
                train(name, options.data, folder / name, options.max_minutes, options.seed)
            encoder = load_encoder(folder / name)
            assert isinstance(encoder, Autoencoder) and encoder.sample_rate == RATE
            encoders[name] = encoder
        done["models"] = test(encoders, options.test, options.examples) if encoders else {}
    if SPEED in options.only:
        done[SPEED] = speed(options.data)
    print(json.dumps(done, indent=2) if options.json else "\n".join(page(done)))


def page(done: dict[str, Any]) -> list[str]:
    """Markdown."""
    lines = []
    if done["models"]:
        head = ("model", "explained", "beyond the mean", "the same, unseen effects", "RMSE / of a constant")
        lines += [f"| {' | '.join(head)} | active latents |", "|---|---|---|---|---|---|"]
    for name, row in done["models"].items():
        seen, other = row["unseen_recordings"], row["and_effects"]
        lines.append(
            f"| {name} | {seen['explained']:.3f} | {seen['explained_beyond_mean']:.3f} "
            f"| {other['explained']:.3f}, {other['explained_beyond_mean']:.3f} "
            f"| {seen['rmse']:.4f} / {seen['constant_rmse']:.4f} "
            f"| {seen['active_latents']} of {seen['latents']} |"
        )
    if SPEED in done:
        s = done[SPEED]
        lines.append(
            f"\n{s['examples_an_epoch']} examples an epoch: {s['seconds_an_epoch']:.1f} s, "
            f"{s['processor_seconds_an_epoch']:.1f} s of processor time in all, on {s['cores']} cores "
            f"of which {s['cores_busy_with_others']:.1f} were busy with other work."
        )
    return lines


if __name__ == "__main__":
    main()
