"""The controller: embeddings of a dry input and of a wet reference -> a setting.

For every parameter it gives a distribution over values: the values themselves for a choice, a toggle or an
integer of few values, evenly spaced bins for a continuous one. A distribution can have several modes, and
settings that sound alike often lie far apart (mda Combo distorts softly at one end of "drive", hard at the
other, and not at all in the middle); a plain regression answers with their mean, which sounds like neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.encoders import Encoder
from dafxhost.errors import ShapeError, UsageError
from dafxhost.parameters import Parameter
from dafxhost.training.landmark_search import find_landmarks
from dafxhost.training.landmarks import Landmarks
from dafxhost.training.signatures import INPUTS, Signatures, find_signatures

MOST_LEVELS = 32
"""An integer of more values is treated as continuous."""
WINDOW = 2
"""Bins on either side of the likeliest that the decoded value is averaged over."""
_NEVER = -1e9
_CLIP = 6.0


class Controller(nn.Module):
    """Encoder and multi-layer perceptron -> a distribution over each parameter's values.

    Args:
        encoder: audio -> embedding `[B, D]`; input and reference go through the same one.
        parameters: of the effect, P of them, at least one.
        hidden, depth, dropout: width, number and dropout of the layers.
        bins: L, values a continuous parameter's distribution has, evenly spaced from 0 to 1.
        sharpness: of decoding. 0: a continuous parameter is the mean within its distribution's mode. Above
            0: the mean of the whole distribution raised to that power, which between unlikely values lies
            in the middle of them, and can be trained to lie anywhere.

    Attributes:
        values: `[P, L]`, the setting on 0..1 that each entry of a distribution stands for.
        mask: `[P, L]` bool, False where a parameter has fewer values than L.
        continuous: `[P]` bool.
        landmarks: what positions of peaks say about settings; None without.
        signatures: what steady filters say about them; None without.
    """

    values: Tensor
    mask: Tensor
    continuous: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        encoder: Encoder,
        parameters: Sequence[Parameter],
        *,
        hidden: int = 384,
        depth: int = 2,
        dropout: float = 0.1,
        bins: int = 24,
        sharpness: float = 0.0,
    ) -> None:
        super().__init__()
        if not parameters:
            raise UsageError("an effect without parameters leaves nothing to learn")
        self.encoder = encoder
        self.options = {"hidden": hidden, "depth": depth, "dropout": dropout, "bins": bins}
        if sharpness:  # runs of before have no such option
            self.options["sharpness"] = sharpness
        self.sharpness = sharpness
        discrete = [0 < p.levels <= MOST_LEVELS for p in parameters]
        counts = [p.levels if d else bins for p, d in zip(parameters, discrete, strict=True)]
        values = torch.zeros(len(counts), max(counts))
        mask = torch.zeros(len(counts), max(counts), dtype=torch.bool)
        for row, (n, d) in enumerate(zip(counts, discrete, strict=True)):
            values[row, :n] = (torch.arange(n) + 0.5) / n if d else torch.linspace(0, 1, n)
            mask[row, :n] = True
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("continuous", ~torch.tensor(discrete), persistent=False)
        self.register_buffer("mean", torch.zeros(encoder.embedding_size))
        self.register_buffer("scale", torch.ones(encoder.embedding_size))
        width = encoder.pair_size or 3 * encoder.embedding_size
        width += INPUTS if encoder.cepstrum_size else 0
        layers: list[nn.Module] = [nn.Dropout(dropout / 2)]
        for _ in range(depth):
            layers += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)]
            width = hidden
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, values.numel())
        self.landmarks: Landmarks | None = None
        self.signatures: Signatures | None = None

    def config(self) -> dict[str, Any]:
        """JSON-able options that make the same controller again, given encoder and parameters."""
        return dict(self.options)

    @torch.no_grad()
    def standardise(self, embeddings: Tensor) -> None:
        """Take mean and deviation of `[N, D]` as those by which embeddings are standardised from now on."""
        self.mean.copy_(embeddings.mean(dim=0))
        self.scale.copy_(embeddings.std(dim=0, correction=0) + 1e-2)

    def fit_pairs(self, dry: Tensor, reference: Tensor, settings: Tensor) -> None:
        """Let an encoder of pairs see embeddings `[N, D]` of both and the settings `[N, P]`."""
        if self.encoder.pair_size:
            targets = self.labels(settings.to(self.mean)).flatten(1)[:, self.mask.flatten()]
            self.encoder.fit_pairs(dry.to(self.mean), reference.to(self.mean), targets)

    def find_landmarks(self, dry: Tensor, reference: Tensor, settings: Tensor) -> None:
        """Learn landmarks, if the encoder has peaks, from what `fit_pairs` takes."""
        if self.encoder.peak_tolerances:
            tolerances = torch.tensor(self.encoder.peak_tolerances, dtype=torch.float64)
            heard, before = (self.encoder.peaks(x.cpu()) for x in (reference, dry))
            found = find_landmarks(settings.cpu(), self.continuous.cpu(), heard, before, tolerances)
            self.landmarks = found.to(self.mean.device) if len(found) else None

    def find_signatures(
        self,
        reference: Tensor,
        plain: Tensor,
        settings: Tensor,
        measure: Callable[[Tensor], Tensor],
        seed: int,
    ) -> None:
        """Learn signatures, if the encoder has cepstra, from embeddings of references `[N, D]`, of clips
        without the effect `[C, D]`, settings `[N, P]`, and `measure`, which plays noise through settings
        `[K, P]` and gives cepstra `[K, L]`.
        """
        if self.encoder.cepstrum_size:
            generator = torch.Generator().manual_seed(seed)
            heard, without = (self.encoder.cepstrum(x.cpu()) for x in (reference, plain))
            found = find_signatures(settings.cpu(), self.continuous.cpu(), heard, without, measure, generator)
            self.signatures = found.to(self.mean.device) if len(found) else None

    def make_room(self, tensors: dict[str, Tensor]) -> None:
        """Be ready for a state that may have landmarks and signatures."""
        family = tensors.get("landmarks.family")
        room = None if family is None else Landmarks(len(family), len(self.values))
        self.landmarks = None if room is None else room.to(self.mean.device)
        main = tensors.get("signatures.main")
        tables = None if main is None else Signatures(len(main), self.encoder.cepstrum_size)
        self.signatures = None if tables is None else tables.to(self.mean.device)

    def embed(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Audio `[B, C, T]` at `sample_rate` Hz -> embedding `[B, D]`."""
        return self.encoder(audio, sample_rate)

    def forward(self, dry: Tensor, reference: Tensor) -> Tensor:
        """Embeddings `[B, D]` of the dry input and of the wet reference -> logits `[B, P, L]`."""
        if dry.shape != reference.shape or dry.ndim != 2:
            raise ShapeError(
                f"embeddings have one shape [B, D], not {list(dry.shape)} and {list(reference.shape)}"
            )
        joined = self._joined(dry, reference)
        if self.encoder.cepstrum_size:
            joined = torch.cat([joined, self._told(reference)], dim=1)
        logits = self.head(self.body(joined.clamp(-_CLIP, _CLIP))).reshape(-1, *self.values.shape)
        return logits.masked_fill(~self.mask, _NEVER)

    def _joined(self, dry: Tensor, reference: Tensor) -> Tensor:
        """The encoder's own view of the pair, or both embeddings and their difference, standardised."""
        if self.encoder.pair_size:
            return self.encoder.pair(dry, reference)
        a, b = (dry - self.mean) / self.scale, (reference - self.mean) / self.scale
        return torch.cat([a, b, b - a], dim=1)

    def _told(self, reference: Tensor) -> Tensor:
        """What signatures tell of references `[B, D]`: `[B, INPUTS]`, zeros while there are none."""
        if self.signatures is None:
            return reference.new_zeros(len(reference), INPUTS)
        return self.signatures.inputs(self.encoder.cepstrum(reference))

    def likeliest(self, logits: Tensor) -> Tensor:
        """Logits `[B, P, L]` -> index of each parameter's mode `[B, P]`.

        For a continuous parameter it is the mode of the distribution smoothed over three bins.
        """
        p = logits.detach().softmax(dim=-1)
        padded = nn.functional.pad(p, (1, 1))
        smooth = padded[..., :-2] + p + padded[..., 2:]
        return torch.where(self.continuous[:, None], smooth, p).masked_fill(~self.mask, -1).argmax(dim=-1)

    def window(self, index: Tensor) -> Tensor:
        """Modes `[B, P]` -> `[B, P, L]` bool: the entries that belong to the mode."""
        entries = torch.arange(self.values.shape[1], device=index.device)
        reach = torch.where(self.continuous, self.values.shape[1] if self.sharpness else WINDOW, 0)[:, None]
        return ((entries - index[..., None]).abs() <= reach) & self.mask

    def decode(self, logits: Tensor) -> Tensor:
        """Logits `[B, P, L]` -> settings `[B, P]` on 0..1, with gradient for continuous parameters.

        A discrete parameter takes its likeliest value, a continuous one a mean (see `sharpness`).
        """
        power = self.sharpness or 1.0
        weights = (power * logits).softmax(dim=-1) * self.window(self.likeliest(logits))
        return (weights * self.values).sum(dim=-1) / weights.sum(dim=-1).clamp(min=1e-20)

    def settle(self, logits: Tensor, dry: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """`decode`, but parameters that signatures or landmarks locate lie where these say.

        Args:
            logits: `[B, P, L]`. dry, reference: embeddings `[B, D]`.

        Returns:
            Settings `[B, P]`, and `[B, P]` bool: which were located; these have no gradient.
        """
        decoded = self.decode(logits)
        settings, put = decoded.detach(), torch.zeros_like(decoded, dtype=torch.bool)
        if self.landmarks is not None:
            peaks = (self.encoder.peaks(x) for x in (reference, dry))
            settings, put = self.landmarks.locate(
                settings, logits.detach().softmax(dim=-1), self.mask, *peaks
            )
        if self.signatures is not None:
            settings, more = self.signatures.locate(self.encoder.cepstrum(reference), settings)
            put = put | more
        return torch.where(put, settings.to(decoded), decoded), put

    def answer(self, dry: Tensor, reference: Tensor) -> Tensor:
        """Embeddings `[B, D]` of input and reference -> settings `[B, P]`."""
        return self.settle(self(dry, reference), dry, reference)[0]

    def draw(self, logits: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Logits `[P, L]` -> settings `[count, P]` drawn from them; continuous ones lie anywhere in a bin."""
        chosen = torch.multinomial(logits.softmax(dim=-1), count, replacement=True, generator=generator).T
        settings = self.values.gather(1, chosen.T).T
        width = torch.where(self.continuous, 1.0 / (self.options["bins"] - 1), 0.0)
        jitter = torch.rand(settings.shape, generator=generator) - 0.5
        return (settings + width * jitter).clamp(0, 1)

    def labels(self, settings: Tensor) -> Tensor:
        """Settings `[B, P]` -> the distributions `[B, P, L]` wanted for them.

        One value of a discrete parameter; a bell with the deviation of one bin for a continuous one.
        """
        bin_width = 1.0 / (self.options["bins"] - 1)
        width = torch.where(self.continuous, bin_width, 1e-3)[:, None]
        distance = (settings[..., None].to(self.values) - self.values) / width
        return (-0.5 * distance.square()).masked_fill(~self.mask, -torch.inf).softmax(dim=-1)

    def supervised_loss(self, logits: Tensor, settings: Tensor) -> Tensor:
        """Cross-entropy of logits `[B, P, L]` with the settings `[B, P]` that were used -> scalar."""
        entropy = -(self.labels(settings) * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=0)
        return (entropy * torch.where(self.continuous, 0.5, 1.0)).sum()

    @torch.no_grad()
    def setting(self, input: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
        """Input and reference `[B, C, T]` at `sample_rate` Hz -> settings `[B, P]` on 0..1.

        Deterministic: neither dropout nor sampling, whatever mode the module is in.
        """
        training = self.training
        self.eval()
        try:
            return self.answer(self.embed(input, sample_rate), self.embed(reference, sample_rate))
        finally:
            self.train(training)
