"""The stages of networks whose layers lie deeper than in timm's: beside lists by hand, and as they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.integrations.packages import need
from lessonplan.models.transformers_adapter import ImageClassifier
from lessonplan.pretrained import find_head
from lessonplan.settings import Settings
from lessonplan.train.optimizer import parameter_groups
from lessonplan.train.stages import stages
from lessonplan.train.tuning import Tune, Tuning

_VIT = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
_STAGED: dict[str, Any] = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1]}
_WINDOWS = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 4,
}
_PYRAMID = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}


def pyramid() -> list[list[str]]:
    return [[f"poolformer.encoder.{part}.{i}"] for i in range(4) for part in ("patch_embeddings", "block")]


STAGES: dict[str, tuple[dict[str, Any], list[list[str]]]] = {
    "ViT": (
        _VIT,
        [["vit.embeddings"], ["vit.layers.0"], ["vit.layers.1"], ["vit.layers.2", "vit.layernorm"]],
    ),
    "Dinov2": (
        _VIT,
        [
            ["dinov2.embeddings"], ["dinov2.encoder.layer.0"], ["dinov2.encoder.layer.1"],
            ["dinov2.encoder.layer.2", "dinov2.layernorm"],
        ],
    ),
    "Beit": (
        {**_VIT, "use_relative_position_bias": True},
        [["beit.embeddings"], ["beit.layers.0"], ["beit.layers.1"], ["beit.layers.2", "beit.pooler"]],
    ),
    "Swin": (
        _WINDOWS,
        [["swin.embeddings"], ["swin.encoder.layers.0"], ["swin.encoder.layers.1", "swin.layernorm"]],
    ),
    "ConvNext": (
        _STAGED,
        [
            ["convnext.embeddings"],
            *([f"convnext.encoder.stages.{i}"] for i in range(3)),
            ["convnext.encoder.stages.3", "convnext.layernorm"],
        ],
    ),
    "ResNet": (
        {**_STAGED, "embedding_size": 8, "layer_type": "basic"},
        [["resnet.embedder"], *([f"resnet.encoder.stages.{i}"] for i in range(4))],
    ),
    "EfficientNet": (
        {"hidden_dim": 128, "width_coefficient": 0.1, "depth_coefficient": 0.1},
        [
            ["efficientnet.embeddings"],
            *([f"efficientnet.encoder.blocks.{i}"] for i in range(7)),
            ["efficientnet.encoder.top_conv", "efficientnet.encoder.top_bn"],
        ],
    ),
    "PoolFormer": (_PYRAMID, [*pyramid()[:-1], [*pyramid()[-1], "norm"]]),  # written as all embeddings, all blocks
}  # fmt: skip


@pytest.fixture
def build() -> Callable[[str], nn.Module]:
    pytest.importorskip("transformers")
    library = need("transformers", "transformers")

    def of(family: str) -> nn.Module:
        torch.manual_seed(0)
        config = getattr(library, f"{family}Config")(**STAGES[family][0], num_labels=3)
        return ImageClassifier(getattr(library, f"{family}ForImageClassification")(config), 3)

    return of


def by_hand(network: nn.Module, family: str) -> list[set[str]]:
    """Names of the parameters of each stage, the head the last."""
    names = [name for name, _ in network.named_parameters()]
    lists = [*STAGES[family][1], ["classifier"]]
    return [{n for n in names if any(n.startswith(f"model.{part}.") for part in parts)} for parts in lists]


@pytest.mark.parametrize("family", STAGES)
def test_stages_of_classifiers_of_transformers(build: Any, family: str) -> None:
    network = build(family)
    names = {id(p): name for name, p in network.named_parameters()}
    found = stages(network, find_head(network), torch.zeros(1, 3, 32, 32))
    assert [{names[id(p)] for p in part} for part in found] == by_hand(network, family)
    assert sum(len(part) for part in found) == len(names), "each parameter once"


@pytest.mark.parametrize("family", ["ViT", "PoolFormer"])
def test_what_trains_of_them(build: Any, family: str) -> None:
    """The last stages, those that are due, and rates that fall from stage to stage."""
    network, example = build(family), torch.zeros(1, 3, 32, 32)
    lists, names = by_hand(network, family), {id(p): name for name, p in network.named_parameters()}
    before = len(lists) - 1
    groups = parameter_groups(network, list(network.parameters()), Settings.make(layer_decay=0.5), example)
    factors = {names[id(p)]: group["factor"] for group in groups for p in group["params"]}
    assert factors == {name: 0.5 ** (before - at) for at, part in enumerate(lists) for name in part}

    def open_parts() -> set[str]:
        return {name for name, p in network.named_parameters() if p.requires_grad}

    tuning = Tuning(network, Tune.parse("gradual:parts=2,until=0.5"), example=example)
    for progress, opened in ((0.0, 0), (0.25, before // 2), (0.5, before)):
        tuning.advance(progress)
        assert open_parts() == set().union(*lists[before - opened :])
    network = build(family)
    Tuning(network, Tune.parse("last:2"), example=example)
    assert open_parts() == set().union(*lists[-3:])
    with pytest.raises(ConfigError, match=f"the network has {before} stages before its head"):
        Tuning(network, Tune.parse("last:99"), example=example)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64)])
        self.stem = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x).relu()
        return x


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.norm, self.fc = Backbone(), nn.LayerNorm(64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.backbone(x)))


def test_a_backbone_of_ones_own_has_stages_too() -> None:
    """Its stem runs first, though it is written last."""
    network = Own()
    lp.fit(network, "digits", None, "2 steps", tune="last:2", threads=1)
    moved = {
        name
        for (name, a), b in zip(network.named_parameters(), Own().parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert {name.rpartition(".")[0] for name in moved} == {"backbone.blocks.0", "backbone.blocks.1", "norm", "fc"}


def test_modules_beside_others_of_their_kind_are_stages_as_a_whole() -> None:
    """The last one holds more than half of the network, but is one of three."""
    network = lp.models.build_model("tiny", shape=(1, 8, 8), num_classes=3, seed=0)
    sizes = [sum(p.numel() for p in part) for part in stages(network, "classifier")]
    assert 2 * sizes[-2] > sum(sizes)
    assert len(sizes) == 5


def test_a_normalisation_of_the_heads_module_belongs_to_the_stage_before(timm: Any) -> None:
    """timm's ConvNeXt has one between pooling and head."""
    with torch.device("meta"):
        network = timm.create_model("convnext_atto", num_classes=3)
    parts = stages(network, "head.fc")
    assert len(parts) == 1 + 4 + 1
    assert any(p is network.head.norm.weight for p in parts[-2])
    assert any(p is network.stages[3].blocks[0].conv_dw.weight for p in parts[-2])
