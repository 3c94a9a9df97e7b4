"""Where in the image a class is seen: class activation maps and Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError, unknown
from lessonplan.evaluate.network import check_classes, class_labels
from lessonplan.network.untouched import evaluating, frozen


@torch.no_grad()
def cam(model: nn.Module, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """Class activation maps of a network that ends in a mean over pixels and a linear layer (arXiv:1512.04150).

    One forward pass and one contraction: the map of class c is ``sum_k w[c, k] * feature[k]``, and its mean
    over the pixels is the logit without its bias.

    Args:
        model: any network whose last linear layer is fed by the pixel mean of some module's output, or of its
            ReLU: all of ours but LeNet and FCNet.
        x: images ``(N, C, H, W)`` as the network takes them.
        labels: classes ``(N,)`` whose maps are wanted; None: the predicted ones.

    Returns:
        ``(N, h, w)`` maps of the size of the last features, any sign; see ``resize_maps``.

    Raises:
        ConfigError: the network ends in another way; ``grad_cam`` works for it.
        DataError: labels that do not fit.
    """
    linear = next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
    if linear is None:
        raise _no_cam()
    seen: list[Tensor] = []
    pooled: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if module is linear:
            pooled[:] = [inputs[0]]
        elif (
            not pooled
            and isinstance(output, Tensor)
            and output.ndim == 4
            and output.shape[2] * output.shape[3] > 1
        ):
            seen[:] = [output]

    with evaluating(model), _hooked(model.modules(), keep):
        logits = model(x)
    if not seen or not pooled or pooled[0].shape != seen[0].shape[:2]:
        raise _no_cam()
    for features in (seen[0], seen[0].relu()):
        scale = pooled[0].abs().amax().clamp(min=1e-12)
        if bool(((features.mean((2, 3)) - pooled[0]).abs().amax() / scale) < 1e-3):
            chosen = _classes(logits, x, labels)
            return torch.einsum("nk,nkhw->nhw", linear.weight[chosen].to(features.dtype), features)
    raise _no_cam()


def grad_cam(
    model: nn.Module, x: Tensor, layer: str | nn.Module | None = None, labels: Tensor | None = None
) -> Tensor:
    """Grad-CAM maps (arXiv:1610.02391, eqs. 1 and 2) of any network with feature maps; no hook stays behind.

    Args:
        model: gives logits ``(N, C)``.
        x: images ``(N, C, H, W)`` as the network takes them.
        layer: the module whose output ``(N, K, h, w)`` is looked at, or its name; None: the last module with
            such an output.
        labels: classes ``(N,)`` whose maps are wanted; None: the predicted ones.

    Returns:
        ``(N, h, w)`` maps, 0 or more.

    Raises:
        ConfigError: an unknown layer, one that takes no part, or one without feature maps.
        DataError: labels that do not fit.
    """
    module = _find_layer(model, x, layer)
    seen: list[Tensor] = []

    def cut(_: nn.Module, inputs: tuple[Tensor, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise ConfigError(f"the layer {layer!r} gives no feature maps (N, K, h, w): name a convolutional one")
        # Nothing before the layer needs a gradient. The network goes on with a copy, which it may overwrite.
        seen[:] = [output.detach().requires_grad_()]
        return seen[0].clone()

    with torch.inference_mode(False), torch.enable_grad(), frozen(model), _hooked([module], cut):
        logits: Tensor = model(x.detach().clone())
        if not seen:
            raise ConfigError(f"the layer {layer!r} takes no part in the network's forward pass: name another one")
        chosen = _classes(logits, x, labels)
        (gradient,) = torch.autograd.grad(logits.gather(1, chosen.unsqueeze(1)).sum(), seen[0])
    weights = gradient.mean((2, 3))
    return torch.einsum("nk,nkhw->nhw", weights, seen[0].detach()).relu()


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``(N, h, w)`` stretched to the range [0, 1] each and enlarged bilinearly to ``(N, *size)``.

    A constant map becomes all zeros.

    >>> resize_maps(torch.tensor([[[1.0, 3.0]]]), (1, 2))
    tensor([[[0., 1.]]])
    """
    large = F.interpolate(maps.unsqueeze(1).float(), size=size, mode="bilinear", align_corners=False).squeeze(1)
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    spread = high - low
    # Interpolation rounds, and what it rounds in a constant map must not be blown up.
    constant = spread <= 1e-6 * torch.maximum(low.abs(), high.abs())
    return torch.where(constant, 0.0, (large - low) / torch.where(constant, 1.0, spread))


@contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Callable[..., object]) -> Iterator[None]:
    handles = [m.register_forward_hook(hook) for m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _find_layer(model: nn.Module, x: Tensor, layer: str | nn.Module | None) -> nn.Module:
    if isinstance(layer, nn.Module):
        return layer
    if isinstance(layer, str):
        named = dict(model.named_modules())
        if layer not in named:
            raise unknown("layer", layer, [name for name in named if name])
        found: nn.Module = named[layer]
        return found
    last: list[nn.Module] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            last[:] = [module]

    with torch.no_grad(), evaluating(model), _hooked(model.modules(), keep):
        model(x[:1])
    if not last:
        raise ConfigError("no layer of the network gives feature maps (N, K, h, w): Grad-CAM needs one")
    return last[0]


def _classes(logits: Tensor, x: Tensor, labels: Tensor | None) -> Tensor:
    """The classes whose maps are wanted: the predicted ones, or those that are given."""
    if labels is None:
        return logits.argmax(1)
    given = class_labels(x, labels).to(logits.device)
    check_classes(logits, given)
    return given


def _no_cam() -> ConfigError:
    return ConfigError(
        "the network does not end in a mean over pixels and a linear layer, so it has no class activation maps:"
        " use grad_cam"
    )
