"""dafxhost reconstruct: hear what an autoencoder keeps of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dafxhost_cli.console import note, result, result_json
from dafxhost_cli.options import Json

if TYPE_CHECKING:
    import numpy as np

GAP_SECONDS = 0.3
MOST_SECONDS = 1200


def reconstruct(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="What `dafxhost pretrain` wrote: a VAE or mel-cae.")
    ],
    source: Annotated[
        Path | None, typer.Argument(metavar="[INPUT]", help="Recording; not with --generate.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the sound goes.")] = Path(
        "reconstructed.wav"
    ),
    phase: Annotated[
        str,
        typer.Option(
            "--phase", help="input: the recording's own; griffin-lim: found from the magnitudes alone."
        ),
    ] = "input",
    traverse: Annotated[
        int | None, typer.Option("--traverse", metavar="N", help="Move latent N (0, 1, ...) step by step.")
    ] = None,
    span: Annotated[float, typer.Option("--span", help="How far, in standard deviations.")] = 3.0,
    steps: Annotated[int, typer.Option("--steps", help="In how many steps.")] = 5,
    generate: Annotated[
        int | None, typer.Option("--generate", metavar="N", help="N sounds of random latents instead.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the random latents.", min=0)] = 1,
    as_json: Json = False,
) -> None:
    """Hear a recording through an autoencoder.

    Writes the reconstruction; with --traverse the recording with one latent moved from -span to span, one
    version after the other; with --generate sounds of random latents. Mono, at the encoder's sample rate.
    """
    from dafxhost.errors import UsageError
    from dafxhost_encoders.listening import generate_audio, load_autoencoder

    if (source is None) == (generate is None):
        raise UsageError("name a recording to rebuild, or --generate N for sounds of random latents")
    if traverse is not None and generate is not None:
        raise UsageError("--traverse moves a latent of a recording; leave --generate out")
    encoder = load_autoencoder(weights)
    about: dict[str, Any] = {"output": str(output), "sample_rate": encoder.sample_rate}
    if source is None:
        sounds = generate_audio(encoder, generate or 1, seed).numpy()
    else:
        sounds = _of_recording(encoder, source, phase, traverse, span, steps, about)
    from dafxhost.data.audio_io import write_audio

    clipped = write_audio(output, _in_a_row(sounds, encoder.sample_rate), encoder.sample_rate)
    seconds = sounds.shape[1] / encoder.sample_rate
    about["starts"] = [i * (seconds + GAP_SECONDS) for i in range(len(sounds))]
    about["clipped"] = clipped
    if as_json:
        result_json(about)
    else:
        if "explained" in about:
            result(f"variance of the spectrogram explained: {about['explained']:.3f}")
        what = "1 sound" if len(sounds) == 1 else f"{len(sounds)} sounds"
        result(f"{output}: {what} of {seconds:.2f} s, {encoder.sample_rate} Hz")
    if clipped:
        note(f"warning: {clipped} samples lie beyond full scale")


def _of_recording(
    encoder: Any,
    source: Path,
    phase: str,
    traverse: int | None,
    span: float,
    steps: int,
    about: dict[str, Any],
) -> np.ndarray:
    """`[n, T]`: the reconstruction, or a traversal; adds to `about` what is known of it."""
    import torch

    from dafxhost.data.audio_io import probe, read_audio, require_sound
    from dafxhost.errors import UsageError
    from dafxhost_encoders.listening import reconstruct_audio, traverse_audio

    seconds = probe(source).seconds
    if seconds > MOST_SECONDS:
        raise UsageError(
            f"{source} lasts {seconds / 60:.0f} min; {MOST_SECONDS // 60} min at most are rebuilt: cut it"
        )
    audio, rate = read_audio(source)
    require_sound(audio, str(source))
    clip = torch.from_numpy(audio)
    if traverse is not None:
        about["latent"] = traverse
        return traverse_audio(encoder, clip, rate, traverse, span=span, steps=steps, phase=phase).numpy()
    sound, about["explained"] = reconstruct_audio(encoder, clip, rate, phase=phase)
    return sound.numpy()


def _in_a_row(sounds: np.ndarray, sample_rate: int) -> np.ndarray:
    """`[n, T]` -> `[1, ...]` with gaps of silence between."""
    import numpy as np

    gap = np.zeros(round(GAP_SECONDS * sample_rate), np.float32)
    parts = [part for sound in sounds for part in (sound, gap)][:-1]
    return np.concatenate(parts)[None].astype(np.float32)
