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
            "A frozen encoder: dafxhost's own audio-effect encoder, or a weights file (option weights=FILE).",
        ),
        EncoderSpec(
            "effect-encoder",
            "dafxhost_encoders.effect_encoder:EffectEncoder",
            "Fixed features of what effects leave behind and a small network, trained contrastively.",
        ),
        EncoderSpec(
            "effect-features",
            "dafxhost_encoders.feature_encoder:FeatureEncoder",
            "The effect encoder's fixed features of input and reference; nothing to train.",
        ),
        EncoderSpec(
            "afx-rep",
            "dafxhost_encoders.checkpoints.cnn14:AfxRep",
            "AFx-Rep (Steinmetz 2024) from its checkpoint (option weights=FILE), frozen; sees stereo.",
        ),
        EncoderSpec(
            "panns-cnn14",
            "dafxhost_encoders.checkpoints.cnn14:PannsCnn14",
            "PANNs' Cnn14 (Kong 2020) from its checkpoint (option weights=FILE), frozen.",
        ),
        EncoderSpec(
            "clap",
            "dafxhost_encoders.checkpoints.clap:ClapAudio",
            "CLAP's audio tower from a local folder (option weights=DIR; needs transformers), frozen.",
        ),
        EncoderSpec(
            "timbral-features",
            "dafxhost_encoders.timbral:TimbralEncoder",
            "Audio Commons features (hardness, depth, brightness, ...), standardised; nothing to train.",
        ),
    ]
