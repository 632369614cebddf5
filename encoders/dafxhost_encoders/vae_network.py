"""A convolutional variational autoencoder of pictures of any size that keeps their exact shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from dafxhost.encoders import check_option
from dafxhost.errors import UsageError

Pair = tuple[int, int]
Sizes = int | Sequence[int | Sequence[int]]
"""One number for all layers, or one for each layer; a layer's is a number or (frequency, time)."""


def per_layer(name: str, value: Sizes, layers: int) -> list[Pair]:
    """`value` as one (frequency, time) pair a layer. Raises UsageError if it cannot be read so."""
    items = [value] * layers if isinstance(value, int) else list(value)
    pairs: list[Pair] = []
    for item in items:
        pair = (item, item) if isinstance(item, int) else tuple(item)
        if len(pair) != 2:
            raise UsageError(f"encoder option {name}: a layer takes a number or a pair, not {item!r}")
        for size in pair:
            check_option(name, size, 1, 64)
        pairs.append((pair[0], pair[1]))
    if len(pairs) != layers:
        raise UsageError(f"encoder option {name} has {len(pairs)} entries for {layers} layers")
    return pairs


def convolved(size: int, kernel: int, stride: int) -> int:
    """Length after a convolution: H' = floor((H + 2p - f) / s) + 1 with p = f // 2; at least 1 for any H."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def output_padding(size: int, kernel: int, stride: int) -> int:
    """What a transposed convolution must add to give back `size`.

    It makes H = (H' - 1) s - 2p + f + output_padding of the H' above, so that
    output_padding = (H + 2p - f) mod s: always less than the stride, as it has to be.
    """
    return size - ((convolved(size, kernel, stride) - 1) * stride - 2 * (kernel // 2) + kernel)


class VAENetwork(nn.Module):
    """Pictures `[B, H, W]` of any size -> normal distributions of `[B, D]` -> pictures of that size.

    The linear layers around the latents work on the grid that the convolutions make of a `nominal` picture;
    the grid of any other size is averaged to it on the way in, and interpolated from it on the way out.

    Args:
        nominal: (H, W) that it is built for; others cost detail.
        latents: D.
        channels: output channels of the convolutions; the decoder mirrors them.
        kernels, strides: one number, one a layer, or one (frequency, time) pair a layer.
        variational: else the latents are points: their log variance is 0 and means nothing.
    """

    def __init__(
        self,
        nominal: Pair,
        latents: int,
        channels: Sequence[int],
        kernels: Sizes = 3,
        strides: Sizes = 2,
        variational: bool = True,
    ) -> None:
        super().__init__()
        if not channels:
            raise UsageError("encoder option channels must name at least one layer")
        for count in channels:
            check_option("channels", count, 1)
        self.kernels = per_layer("kernels", kernels, len(channels))
        self.strides = per_layer("strides", strides, len(channels))
        self.channels = (1, *channels)
        self.grid = self.sizes(nominal)[-1]
        down, up = [], []
        for i, (kernel, stride) in enumerate(zip(self.kernels, self.strides, strict=True)):
            around = (kernel[0] // 2, kernel[1] // 2)
            few, many = self.channels[i], self.channels[i + 1]
            down.append(nn.Conv2d(few, many, kernel, stride, around))
            up.append(nn.ConvTranspose2d(many, few, kernel, stride, around))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up[::-1])
        self.activation = nn.LeakyReLU(0.1)
        flat = channels[-1] * self.grid[0] * self.grid[1]
        self.variational = variational
        self.to_latent = nn.Linear(flat, 2 * latents if variational else latents)
        self.from_latent = nn.Linear(latents, flat)
        self._initialise()

    def _initialise(self) -> None:
        """Weights that keep the variance through each layer (He 2015), and an output near 0 to start from."""
        for i, (kernel, stride) in enumerate(zip(self.kernels, self.strides, strict=True)):
            area, step = kernel[0] * kernel[1], stride[0] * stride[1]
            down, up = self.down[i], self.up[len(self.up) - 1 - i]
            # A transposed convolution adds up only every step-th element of its kernel at each place.
            _normal(down, self.channels[i] * area)
            _normal(up, max(1.0, self.channels[i + 1] * area / step), gain=0.1 if i == 0 else 1.0)
        _normal(self.from_latent, self.from_latent.in_features)

    def sizes(self, size: Pair) -> list[Pair]:
        """(H, W) of a picture of that size before the first and after each convolution."""
        out = [size]
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            h, w = out[-1]
            out.append((convolved(h, kernel[0], stride[0]), convolved(w, kernel[1], stride[1])))
        return out

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, H, W]` -> mean and logarithm of the variance of the latents, each `[B, D]`."""
        hidden = pictures.unsqueeze(1)
        for layer in self.down:
            hidden = self.activation(layer(hidden))
        if tuple(hidden.shape[-2:]) != self.grid:
            hidden = adaptive_avg_pool2d(hidden, self.grid)
        latents = self.to_latent(hidden.flatten(1))
        if not self.variational:
            return latents, torch.zeros_like(latents)
        mean, log_variance = latents.chunk(2, dim=1)
        # Beyond these bounds the exponential is of no use in single precision.
        return mean, log_variance.clamp(-20.0, 10.0)

    def decode(self, latents: Tensor, size: Pair) -> Tensor:
        """`[B, D]` -> `[B, H, W]` for `size` (H, W), whatever it is."""
        sizes = self.sizes(size)
        hidden = self.activation(self.from_latent(latents)).unflatten(1, (-1, *self.grid))
        if sizes[-1] != self.grid:
            hidden = interpolate(hidden, sizes[-1], mode="bilinear", align_corners=False)
        last = len(self.up) - 1
        for i, module in enumerate(self.up):
            layer = cast(nn.ConvTranspose2d, module)
            level = last - i
            h, w = sizes[level]
            kernel, stride = self.kernels[level], self.strides[level]
            hidden = nn.functional.conv_transpose2d(
                hidden,
                layer.weight,
                layer.bias,
                stride,
                (kernel[0] // 2, kernel[1] // 2),
                (output_padding(h, kernel[0], stride[0]), output_padding(w, kernel[1], stride[1])),
            )
            # The last layer is linear: it has to reach any value.
            hidden = self.activation(hidden) if i < last else hidden
        return hidden.squeeze(1)


def dense(inputs: int, hidden: Sequence[int], outputs: int, last_gain: float = 1.0) -> nn.Sequential:
    """Linear layers of those widths with activations between them; weights as of `VAENetwork`."""
    widths = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for number, (few, many) in enumerate(itertools.pairwise(widths)):
        check_option("hidden", many, 1)
        layer = nn.Linear(few, many)
        _normal(layer, few, gain=last_gain if number == len(hidden) else 1.0)
        layers += [layer, nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])


def _normal(layer: nn.Module, inputs: float, gain: float = 1.0) -> None:
    layer = cast(nn.Linear, layer)
    nn.init.normal_(layer.weight, std=gain * (2.0 / inputs) ** 0.5)
    nn.init.zeros_(layer.bias)


def sample(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A draw from the normal distribution, differentiable in both (the reparameterisation of Kingma 2014)."""
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal, nats, `[B, D]` (Kingma 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0)
