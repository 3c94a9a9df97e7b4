"""Small pieces that several networks share: convolutions, normalisation, initialisation, pooling."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lessonplan.errors import ConfigError, unknown

Norm = Callable[[int], nn.Module]
"""Makes the normalisation layer for a number of channels."""


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size (or halves it, rounded up, at stride 2)."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU; the size is kept."""
    return nn.Sequential(conv3x3(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.ReLU())


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 16 channels a group (Wu and He 2018, table 3); ``channels`` is a multiple of 16."""
    return nn.GroupNorm(channels // 16, channels)


def norm_layer(name: str) -> Norm:
    """The maker of a normalisation layer: ``"batch"`` or ``"group"``.

    >>> norm_layer("group")(32)
    GroupNorm(2, 32, ...)
    """
    makers: dict[str, Norm] = {"batch": nn.BatchNorm2d, "group": group_norm}
    if name not in makers:
        raise unknown("norm", name, makers)
    return makers[name]


def check_dropout(dropout: float) -> None:
    """Raise a ``ConfigError`` unless 0 <= dropout < 1."""
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout must be at least 0 and below 1, got {dropout}")


def global_mean(x: Tensor) -> Tensor:
    """Average over the pixels, ``(N, C, H, W)`` to ``(N, C)``; unlike pooling deterministic on GPUs."""
    return x.mean((2, 3))


def init_convs(model: nn.Module) -> None:
    """He initialisation of all convolutions: normal, variance ``2 / fan_out`` (He et al. 2015, eq. 14)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
