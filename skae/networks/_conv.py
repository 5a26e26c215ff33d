"""Convolutional encoders and decoders for images given as flat rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from skae.networks._layers import ACTIVATIONS, zero


@dataclass
class ConvNetwork:
    """Stride-2 convolutions, mirrored by transposed ones.

    Each entry of `channels` halves height and width (rounded up); a linear layer
    maps the last feature maps to the latents. The decoder mirrors every step, so
    any image size comes back exactly, odd ones too.

    Parameters
    ----------
    image_shape : tuple of (int, int, int)
        Channels, height and width; rows hold pixels in this order.
    channels : tuple of int, default=(16, 8)
        Number of feature maps after each convolution.
    kernel_size : int, default=3
        Odd side length of the kernels.
    activation : str, default="silu"
        As in :class:`MLPNetwork`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.networks import ConvNetwork
    >>> X, _ = load_digits(return_X_y=True)
    >>> network = ConvNetwork(image_shape=(1, 8, 8), channels=(16, 8))
    >>> model = AutoencoderTransformer(8, network=network, max_epochs=2, random_state=0)
    >>> model.fit_transform(X / 16).shape
    (1797, 8)
    """

    image_shape: tuple[int, int, int]
    channels: tuple[int, ...] = (16, 8)
    kernel_size: int = 3
    activation: str = "silu"

    def build(self, n_features: int, n_components: int) -> tuple[nn.Module, nn.Module]:
        """Return an encoder and a decoder.

        Parameters
        ----------
        n_features : int
            Number of columns of the data; the product of `image_shape`.
        n_components : int
            Number of latents.

        Returns
        -------
        encoder, decoder : torch.nn.Module
            Modules that map (n, n_features) to (n, n_components) and back.

        Raises
        ------
        ValueError
            If `image_shape` does not hold `n_features` pixels, or a parameter is
            out of range.
        """
        self._check(n_features)
        sizes = [tuple(self.image_shape[1:])]
        for _ in self.channels:
            sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
        maps = [self.image_shape[0], *self.channels]
        bottleneck = (maps[-1], *sizes[-1])
        n_hidden = math.prod(bottleneck)
        return (
            ConvEncoder(self, maps, nn.Linear(n_hidden, n_components)),
            ConvDecoder(self, maps, sizes, nn.Linear(n_components, n_hidden), bottleneck),
        )

    def _check(self, n_features: int) -> None:
        if (
            len(self.image_shape) != 3
            or min(self.image_shape) < 1
            or math.prod(self.image_shape) != n_features
        ):
            raise ValueError(
                f"ConvNetwork's image_shape={self.image_shape!r} must be (channels, height, "
                f"width) with as many pixels as X has columns, which is {n_features}."
            )
        channels = self.channels if isinstance(self.channels, tuple | list) else ()
        if not channels or min(channels) < 1:
            raise ValueError(
                f"ConvNetwork's channels={self.channels!r} must be a tuple of positive ints."
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                f"ConvNetwork's kernel_size={self.kernel_size!r} must be an odd positive int."
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"ConvNetwork's activation={self.activation!r} must be one of "
                f"{sorted(ACTIVATIONS)}."
            )


class ConvEncoder(nn.Sequential):
    """Unflatten, halve the image once per convolution, flatten, map to latents."""

    def __init__(self, network: ConvNetwork, maps: list[int], output_layer: nn.Module):
        layers: list[nn.Module] = [nn.Unflatten(1, network.image_shape)]
        for n_in, n_out in pairwise(maps):
            layers += [
                nn.Conv2d(
                    n_in,
                    n_out,
                    network.kernel_size,
                    stride=2,
                    padding=network.kernel_size // 2,
                ),
                ACTIVATIONS[network.activation](),
            ]
        super().__init__(*layers, nn.Flatten(), output_layer)

    def start_at_zero(self) -> None:
        zero(self[-1])


class ConvDecoder(nn.Sequential):
    """Map latents to feature maps, double the image once per convolution, flatten."""

    def __init__(
        self,
        network: ConvNetwork,
        maps: list[int],
        sizes: list[tuple[int, ...]],
        input_layer: nn.Module,
        bottleneck: tuple[int, ...],
    ):
        layers: list[nn.Module] = [input_layer, nn.Unflatten(1, bottleneck)]
        for step in range(len(maps) - 1, 0, -1):
            # Halving 7 and 8 both give 4; the output padding decides which one comes back.
            height, width = sizes[step - 1]
            output_padding = (1 - height % 2, 1 - width % 2)
            layers += [
                ACTIVATIONS[network.activation](),
                nn.ConvTranspose2d(
                    maps[step],
                    maps[step - 1],
                    network.kernel_size,
                    stride=2,
                    padding=network.kernel_size // 2,
                    output_padding=output_padding,
                ),
            ]
        super().__init__(*layers, nn.Flatten())

    def start_at_zero(self) -> None:
        zero(self[-2])
