"""Weights of other names: by order, or by shapes and numbers, never the wrong ones; and what they fit instead."""

from __future__ import annotations

import json
import random
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.models import build_model
from lessonplan.pretrained import find_head, put_weights, read_weights
from lessonplan.pretrained.renamed import COUNT, by_shapes, keeps_order
from lessonplan.train.origin import origin_of

LITE0 = "timm:tf_efficientnet_lite0"


def sorted_file(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """As safetensors keeps it."""
    safetensors.torch.save_file({name: value.contiguous().clone() for name, value in state.items()}, path)
    return read_weights(path)


def test_another_librarys_safetensors_give_what_its_state_dict_gives(
    timm: Any, lite0: Path, tmp_path: Path
) -> None:
    """Real weights of efficientnet_lite_pytorch's names; which is which, their order tells independently."""
    state, nets = read_weights(lite0), []
    for seed, stored in enumerate((state, sorted_file(state, tmp_path / "lite0.safetensors"))):
        nets.append(build_model(LITE0, shape=(3, 64, 64), num_classes=1000, seed=seed))
        match = put_weights(nets[-1], stored, find_head(nets[-1]))
    assert "of other names, by their shapes and numbers" in str(match)
    for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)


def _sizes(*names: str, shape: tuple[int, ...] = (4, 4, 3, 3)) -> dict[str, torch.Size]:
    return {f"{name}.weight": torch.Size(shape) for name in names}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        # a list for each kind of layer, and a block with one of each
        (
            [f"blocks.{b}.conv{c}" for b in range(3) for c in (1, 2)],
            [f"conv{c}.{b}" for c in (1, 2) for b in range(3)],
        ),
        (
            [f"blocks.{b}.conv{c}" for b in range(2) for c in (1, 2)],
            [f"conv{c}.{b}" for c in (1, 2) for b in range(2)],
        ),
        # one alone and two of a kind: which is the first is not said
        (["reduce", "blocks.0", "blocks.1"], ["conv1", "conv2", "last"]),
    ],
)
def test_layers_that_could_be_others_are_not_told(mine: list[str], theirs: list[str]) -> None:
    assert by_shapes(_sizes(*theirs), _sizes(*mine), {}) is None


def test_layers_that_nest_alike_are_told() -> None:
    mine = [f"blocks.{b}.conv{c}" for b in range(3) for c in (1, 2)]
    theirs = [f"layers.{b + 1}.c.conv{c}" for b in range(3) for c in (0, 1)]
    assert by_shapes(_sizes(*reversed(theirs)), _sizes(*mine), {}) == {
        f"{a}.weight": f"{b}.weight" for a, b in zip(mine, theirs, strict=True)
    }


@pytest.mark.parametrize(
    "name", ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto", "regnetx_002"]
)
def test_whatever_tensors_are_called_none_goes_to_anothers_place(timm: Any, name: str) -> None:
    """Each word of the names is another one, and they are sorted; what cannot be told is not loaded."""
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=7)
    head, shapes = (
        find_head(network),
        {k: v.shape for k, v in network.state_dict().items() if not k.endswith(COUNT)},
    )
    body = {k: v for k, v in shapes.items() if not k.startswith(f"{head}.")}
    found = 0
    for seed in range(5):
        draw, words = random.Random(seed), dict[str, str]()

        def other(word: str, draw: random.Random = draw, words: dict[str, str] = words) -> str:
            return words.setdefault(word, "".join(draw.choices("abcdefgh", k=8)))

        def renamed(tensor: str, other: Any = other) -> str:
            module, _, kind = tensor.rpartition(".")
            parts = [re.sub(r"^[a-z_]\w*?(?=\d*$)", lambda m: other(m[0]), part) for part in module.split(".")]
            return ".".join([*filter(None, parts), kind if re.match("weight|bias|running", kind) else other(kind)])

        truth = {tensor: renamed(tensor) for tensor in shapes}
        stored = {name: shapes[own] for name, own in sorted((name, own) for own, name in truth.items())}
        names = by_shapes(stored, body, {k: v for k, v in shapes.items() if k not in body})
        assert names is None or names == truth
        found += names is not None
    assert found > 0 or name in ("vit_tiny_patch16_224", "convnext_atto")


def deep(prefix: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    body = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12)))
    return nn.Sequential(OrderedDict([(prefix, body), ("fc", nn.Linear(4, 2))]))


def test_a_sorted_file_is_not_taken_by_its_order(tmp_path: Path) -> None:
    """ "layers.10" stands before "layers.2", and all have the same shape."""
    theirs, ours = deep("layers", 0), deep("blocks", 1)
    stored = sorted_file(theirs.state_dict(), tmp_path / "deep.safetensors")
    assert [n for n in stored if n.endswith("weight")][2:4] == ["layers.1.weight", "layers.10.weight"]
    assert not keeps_order(stored)
    put_weights(ours, stored, "fc")
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)


class Attention(nn.Module):
    def __init__(self, names: str) -> None:
        super().__init__()
        for name in names.split():
            self.add_module(name, nn.Linear(4, 4))
        self.fc = nn.Linear(4, 2)


def test_what_words_alone_tell_apart_is_refused(tmp_path: Path) -> None:
    """Sorted it is key, query, value: as many as are wanted, of the same shapes, in another order."""
    theirs, ours = Attention("query key value"), Attention("q k v")
    stored = sorted_file(theirs.state_dict(), tmp_path / "attention.safetensors")
    words = "sorted by its own names: give the state dict that torch has saved, which keeps the order"
    with pytest.raises(ConfigError, match=words):
        put_weights(ours, stored, "fc")
    put_weights(ours, theirs.state_dict(), "fc")
    assert torch.equal(ours.q.weight, theirs.query.weight)
    with pytest.raises(ConfigError, match="in another order: give them the network's names"):
        put_weights(ours, dict(reversed(theirs.state_dict().items())), "fc")


def test_layers_that_are_left_over_are_a_head_or_a_larger_network(tmp_path: Path) -> None:
    theirs = deep("layers", 0)
    state = theirs.state_dict()
    ours = deep("blocks", 1)
    match = put_weights(
        ours, dict(sorted(state.items())) | {"fc.weight": torch.ones(3, 4), "fc.bias": torch.ones(3)}, "fc"
    )
    assert match.fresh == ("fc.weight", "fc.bias"), "a head of another size is not kept"
    with pytest.raises(ConfigError, match="0 of 24 tensors fit"):
        put_weights(
            ours, sorted_file({**state, "layers.12.weight": torch.ones(4, 4)}, tmp_path / "more.safetensors"), "fc"
        )


def test_renamed_weights_of_colours_for_grey_images(tmp_path: Path) -> None:
    theirs, ours = (
        nn.Sequential(
            OrderedDict([(name, nn.Conv2d(c, 4, 3)), ("flat", nn.Flatten()), (f"{name}_fc", nn.Linear(4, 2))])
        )
        for c, name in ((3, "stem"), (1, "entry"))
    )
    match = put_weights(ours, sorted_file(theirs.state_dict(), tmp_path / "rgb.safetensors"), "entry_fc")
    assert match.adapted == ("entry.weight from 3 to 1 channels",)
    assert torch.allclose(ours.entry.weight, theirs.stem.weight.sum(1, keepdim=True))
    assert torch.equal(ours.entry_fc.weight, theirs.stem_fc.weight)


def refused(model: str | nn.Module, file: Path, shape: tuple[int, ...] = (3, 32, 32)) -> str:
    with pytest.raises(ConfigError) as caught:
        origin_of(model, str(file)).network(shape=shape, num_classes=2, seed=0)
    return str(caught.value)


def test_weights_of_one_of_our_networks_name_it(tmp_path: Path) -> None:
    torch.save(build_model("wrn-16-1", shape=(3, 32, 32), num_classes=2).state_dict(), tmp_path / "mine.pth")
    assert refused("tiny", tmp_path / "mine.pth").endswith("; they fit wrn-16-1")
    assert refused(deep("blocks", 0), tmp_path / "mine.pth").endswith("; they fit wrn-16-1")


def test_a_file_beside_a_configuration_of_transformers_names_it(timm: Any, tmp_path: Path) -> None:
    torch.save(Attention("key").state_dict(), tmp_path / "model.pth")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    words = (
        f"they lie with a vit: give the file's folder, model='transformers:{tmp_path}' and weights='pretrained'"
    )
    assert words in refused("timm:resnet10t", tmp_path / "model.pth")
    (tmp_path / "config.json").write_text("no JSON")
    assert "transformers" not in refused("timm:resnet10t", tmp_path / "model.pth")


@pytest.mark.slow
def test_a_file_of_any_name_names_the_network_of_timm_that_it_fits(timm: Any, tmp_path: Path) -> None:
    """Neither the file nor its tensors have timm's names."""
    state = build_model("timm:resnet10t", shape=(3, 32, 32), num_classes=2).state_dict()
    other = {
        re.sub("[a-z_]+(?=[0-9]*[.])", lambda m: f"my_{m[0][::-1]}", name): value for name, value in state.items()
    }
    torch.save(other, tmp_path / "weights.pth")
    assert refused("timm:resnet18", tmp_path / "weights.pth").endswith("; they fit timm:resnet10t")


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4, bias=False) for _ in range(12)])
        self.stem, self.norm, self.head = nn.Linear(4, 5, bias=False), nn.Linear(5, 5, bias=False), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(self.stem(x)))


def test_a_sorted_file_has_no_order_behind_its_prefixes_either(tmp_path: Path) -> None:
    """Without ``model.`` its names are not sorted any more, and layer 10 stands before layer 2 all the same."""
    first, second = Layered(), Layered()
    names = {name: f"model.{name.replace('blocks', 'layer')}" for name in first.state_dict() if "head" not in name}
    names["norm.weight"] = "norm.weight"
    state = sorted_file(
        {names[name]: value for name, value in first.state_dict().items() if name in names},
        tmp_path / "f.safetensors",
    )
    put_weights(second, state, "head")
    for a, b in zip(first.blocks, second.blocks, strict=True):
        assert torch.equal(a.weight, b.weight)
