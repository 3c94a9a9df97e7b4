"""A chain of layers for many networks at once: one convolution with a group for each network.

On a CPU this makes small networks about twice as fast as one pass after the other: the first layer, which all
networks apply to the same samples, becomes one large matrix product, and what follows stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.order.perfect.state import State

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity)
_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_WITHOUT_EFFECT = (nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.Flatten)
_PATCH_BYTES = 2**28  # larger sets of patches are not kept: their first layer is an ordinary convolution

Layers = list[tuple[str, nn.Module]]


def chain_of(network: nn.Module) -> Layers | None:
    """The layers of an ``nn.Sequential`` (nested ones too) that can be grouped, or None where one cannot.

    Convolutions without groups of their own and with zero padding, linear layers behind at most one flattening,
    element-wise functions, pooling; dropout counts as nothing, because chains are for evaluation.
    """
    layers = list(_flattened(network, ""))
    flat = False
    for _, layer in layers:
        if layer._forward_hooks or layer._forward_pre_hooks:
            return None
        if isinstance(layer, nn.Flatten):
            if flat or layer.start_dim != 1 or layer.end_dim != -1:
                return None
            flat = True
        elif isinstance(layer, nn.Linear):
            flat = True
        elif isinstance(layer, (nn.Conv2d, *_POOLING)) and flat:
            return None
        elif isinstance(layer, nn.Conv2d):
            if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                return None
        elif not isinstance(layer, (*_ELEMENTWISE, *_POOLING, *_WITHOUT_EFFECT)):
            return None
    return layers if any(name for name, _ in layers) else None


def _flattened(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for child, layer in module.named_children():
            yield from _flattened(layer, f"{name}.{child}" if name else child)
    else:
        yield name, module


class GroupedChain:
    """Logits of many networks on fixed samples.

    Args:
        layers: from `chain_of`.
        x: samples ``(N, C, H, W)``, or ``(N, F)`` where no layer convolves.
    """

    def __init__(self, layers: Layers, x: Tensor) -> None:
        self._layers, self._x = layers, x
        self._patches: Tensor | None = None
        self._sides: tuple[int, int] = (1, 1)
        first = layers[0][1]
        if isinstance(first, nn.Conv2d) and x.device.type == "cpu":
            self._keep_patches(first)

    def logits(self, states: State, first: int, last: int) -> Tensor:
        """Logits ``(K, last - first, classes)`` of K stacked networks on samples first to last - 1."""
        networks = len(states)
        hidden, rest = self._begin(states, first, last)
        for name, layer in rest:
            hidden = self._apply(name, layer, hidden, states)
        return hidden.flatten(1).view(len(hidden), networks, -1).transpose(0, 1)

    def _keep_patches(self, layer: nn.Conv2d) -> None:
        """What the first convolution multiplies, for all samples: it is the same for every network."""
        one = _patches(layer, self._x[:1])
        if one.numel() * one.element_size() * len(self._x) <= _PATCH_BYTES:
            self._patches = _patches(layer, self._x)
            shape = layer(self._x[:1]).shape
            self._sides = (int(shape[2]), int(shape[3]))

    def _begin(self, states: State, first: int, last: int) -> tuple[Tensor, Layers]:
        """The first layer, whose input all networks share: ``(N, K * channels, H, W)``, and what is left."""
        x = self._x[first:last]
        skipped = 0
        while isinstance(self._layers[skipped][1], _WITHOUT_EFFECT):
            skipped += 1
        name, layer = self._layers[skipped]
        rest = self._layers[skipped + 1 :]
        if self._patches is not None and isinstance(layer, nn.Conv2d):
            weight, bias = _weights(name, layer, states)
            patches = self._patches[first:last]
            flat = weight.flatten(0, 1).flatten(1)
            product = _affine(patches.flatten(0, 1), flat, bias)
            return product.view(len(patches), *self._sides, len(flat)).permute(0, 3, 1, 2), rest
        if isinstance(layer, nn.Conv2d):
            weight, bias = _weights(name, layer, states)
            return F.conv2d(x, weight.flatten(0, 1), bias, layer.stride, layer.padding, layer.dilation), rest
        if isinstance(layer, nn.Linear):
            weight, bias = _weights(name, layer, states)
            return _affine(x.flatten(1), weight.flatten(0, 1), bias)[:, :, None, None], rest
        image = x if x.ndim == 4 else x[:, :, None, None]
        return image.repeat(1, len(states), 1, 1), self._layers[skipped:]

    def _apply(self, name: str, layer: nn.Module, hidden: Tensor, states: State) -> Tensor:
        """A layer on ``(N, K * channels, H, W)``; a linear one sees the whole picture as its kernel."""
        if isinstance(layer, _WITHOUT_EFFECT):
            return hidden
        if isinstance(layer, nn.ReLU):
            return hidden.relu_()
        if isinstance(layer, nn.Conv2d):
            weight, bias = _weights(name, layer, states)
            kernel = weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            return F.conv2d(hidden, kernel, bias, layer.stride, layer.padding, layer.dilation, len(states))
        if isinstance(layer, nn.Linear):
            weight, bias = _weights(name, layer, states)
            sides = hidden.shape[2:]
            kernel = weight.flatten(0, 1).unflatten(1, (-1, *sides)).contiguous(memory_format=torch.channels_last)
            return F.conv2d(hidden, kernel, bias, groups=len(states))
        found: Tensor = layer(hidden)
        return found


def _weights(name: str, layer: nn.Conv2d | nn.Linear, states: State) -> tuple[Tensor, Tensor | None]:
    """Weight ``(K, ...)`` and bias ``(K * outputs,)`` of all networks; frozen ones are the layer's own."""
    weight = _stacked(f"{name}.weight", layer.weight, states)
    bias = None if layer.bias is None else _stacked(f"{name}.bias", layer.bias, states).flatten()
    return weight, bias


def _stacked(name: str, own: Tensor, states: State) -> Tensor:
    return states.params[name] if name in states.params else own.expand(len(states), *own.shape)


def _patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What a convolution multiplies with its kernels, ``(N, places, inputs)``."""
    assert not isinstance(layer.padding, str)
    return F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2).contiguous()


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
