"""The encoders that come with dafxhost, registered as anybody's would be."""

from __future__ import annotations

from dafxhost.registry import EncoderSpec, hookimpl


@hookimpl
def dafxhost_encoders() -> list[EncoderSpec]:
    return [
        EncoderSpec(
            "style-statistics",
            "dafxhost_encoders.style_statistics:StyleStatistics",
            "Distributions of spectrum and waveform; nothing to train, the default of training.",
        ),
        EncoderSpec(
            "log-mel",
            "dafxhost_encoders.logmel:LogMelEncoder",
            "Log-mel spectrogram and a small convolutional network, trained with the controller.",
        ),
        EncoderSpec(
            "spectrogram-vae",
            "dafxhost_encoders.spectrogram_vae:SpectrogramVAE",
            "Spectrogram beta-VAE; the embedding is its latent mean.",
        ),
        EncoderSpec(
            "mel-cae",
            "dafxhost_encoders.mel_cae:MelCAE",
            "Convolutional autoencoder of mel spectrograms; the embedding is its bottleneck.",
        ),
        EncoderSpec(
            "embedding-vae",
            "dafxhost_encoders.embedding_vae:EmbeddingVAE",
            "Beta-VAE of a frozen encoder's embeddings before and after an effect.",
        ),
        EncoderSpec(
            "pretrained",
            "dafxhost_encoders.pretrained:PretrainedEncoder",
            "A frozen encoder from a weights file (option weights=FILE).",
        ),
    ]
