"""From a spelling and an input shape to a network, reproducibly."""

from __future__ import annotations

import torch
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.models.densenet import DenseNetBC
from lessonplan.models.dla import DLA, SimpleDLA
from lessonplan.models.fcnet import FCNet
from lessonplan.models.lenet import LeNet
from lessonplan.models.preact_resnet import PreActResNet
from lessonplan.models.resnet import ResNet18
from lessonplan.models.spec import ModelSpec, at_least_one, check_shape, parse
from lessonplan.models.timm_adapter import build_timm
from lessonplan.models.tiny import TinyResNet
from lessonplan.models.vgg import VGG11
from lessonplan.models.wide_resnet import WideResNet


def build_model(spec: str, *, shape: tuple[int, ...], num_classes: int, seed: int | None = None) -> nn.Module:
    """Build a network from its spelling.

    Args:
        spec: one of `lessonplan.models.model_names` (the numbers may be changed: ``"fcnet-N"``,
            ``"wrn-DEPTH-WIDEN"``, ``"preact-resnet-DEPTH"``, ``"densenet-bc-DEPTH-GROWTH"``), or
            ``"timm:NAME"`` for any model of timm (extra ``lessonplan[timm]``, no pretrained weights).
        shape: shape of one input, ``(C, H, W)``; ``fcnet`` also takes ``(F,)``.
        num_classes: number of outputs, 1 or more.
        seed: the same seed gives the same weights; None draws a fresh one from the operating system. The
            global generators are left as they were.

    Returns:
        The network in training mode, float32, on the CPU whatever the default device is, so that a seed
        means the same weights everywhere (on ``meta`` inside ``torch.device("meta")``). Our own networks
        have ``stage_names``: the submodules behind which hidden representations can be mixed.

    Raises:
        ConfigError: unknown name, numbers or shape that are not allowed, or timm missing.

    >>> model = build_model("tiny", shape=(1, 8, 8), num_classes=10, seed=0)
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    >>> model.stage_names
    ('stage1', 'stage2', 'stage3')
    """
    model = parse(spec)
    check_shape(model, shape)
    at_least_one("num_classes", num_classes)
    device = "meta" if torch.get_default_device().type == "meta" else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        # torch.manual_seed would seed every GPU's generator too, which nothing here would restore
        if seed is None:
            torch.default_generator.seed()
        else:
            torch.default_generator.manual_seed(seed)
        return _construct(model, shape, num_classes)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters; shared ones count once.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _construct(model: ModelSpec, shape: tuple[int, ...], classes: int) -> nn.Module:
    channels = shape[0]
    size = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
    match model.family, model.numbers:
        case "tiny", ():
            return TinyResNet(in_channels=channels, num_classes=classes, image_size=size)
        case "lenet", ():
            return LeNet(in_channels=channels, num_classes=classes, image_size=size)
        case "fcnet", (hidden,):
            return FCNet(hidden, in_channels=channels, num_classes=classes, image_size=size)
        case "wrn", (depth, widen):
            return WideResNet(depth, widen, in_channels=channels, num_classes=classes)
        case "preact-resnet", (depth,):
            return PreActResNet(depth, in_channels=channels, num_classes=classes)
        case "resnet-18", ():
            return ResNet18(in_channels=channels, num_classes=classes)
        case "dla", ():
            return DLA(in_channels=channels, num_classes=classes)
        case "simple-dla", ():
            return SimpleDLA(in_channels=channels, num_classes=classes)
        case "vgg-11", ():
            return VGG11(in_channels=channels, num_classes=classes)
        case "densenet-bc", (depth, growth):
            return DenseNetBC(depth, growth, in_channels=channels, num_classes=classes)
        case "timm", ():
            return build_timm(model.name, in_channels=channels, num_classes=classes, image_size=size)
    raise ConfigError(f"no builder for model family {model.family!r}")
