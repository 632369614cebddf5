"""The mel convolutional autoencoder: as the spectrogram VAE, but with points as latents."""

from __future__ import annotations

from collections.abc import Sequence

from dafxhost_encoders.spectrogram_vae import SpectrogramAutoencoder
from dafxhost_encoders.vae_network import Sizes


class MelCAE(SpectrogramAutoencoder):
    """Convolutional autoencoder of log-compressed mel spectrograms, by default 64 bands.

    Convolutions make H' = floor((H + 2p - f) / s) + 1 of H; transposed convolutions give H back by
    H = (H' - 1) s - 2p + f + output padding, the padding chosen for each layer and size
    (`vae_network.output_padding`), so that any shape comes back exactly: (1, 10, 474) as well. Each layer but
    the last is followed by an activation. The bottleneck is linear: `embedding_size` numbers a patch.

    Arguments as of `SpectrogramAutoencoder`, without beta.
    """

    name = "mel-cae"
    variational = False

    def __init__(
        self,
        embedding_size: int = 128,
        sample_rate: int = 24_000,
        n_fft: int = 1024,
        hop: int = 512,
        input: str = "mel",
        mels: int = 64,
        compression: str = "log",
        power: float = 0.3,
        patch_frames: int = 32,
        channels: Sequence[int] = (16, 32, 32),
        kernels: Sizes = 3,
        strides: Sizes = 2,
        normalise: bool = True,
    ) -> None:
        super().__init__(
            embedding_size,
            sample_rate,
            n_fft,
            hop,
            input,
            mels,
            compression,
            power,
            patch_frames,
            channels,
            kernels,
            strides,
            0.0,
            normalise,
        )

    def config(self) -> dict[str, object]:
        return {name: value for name, value in super().config().items() if name != "beta"}
