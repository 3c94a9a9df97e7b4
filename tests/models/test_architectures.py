"""What every network does: shapes, gradients, memory formats, stages, state; and what single ones do."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.models import FCNet, LeNet, PreActResNet, TinyResNet, WideResNet, build_model
from lessonplan.models.blocks import BasicBlock, PadShortcut, PreActBlock
from lessonplan.models.common import init_convs
from lessonplan.models.dla import Tree

CHEAP = ["tiny", "lenet", "fcnet-20", "wrn-16-1", "preact-resnet-20", "vgg-11", "vgg-gap", "densenet-bc-22-4"]
HEAVY = ["preact-resnet-18", "resnet-18", "dla", "simple-dla"]
ALL = CHEAP + HEAVY
SMALL_SIDE = {"lenet": 16, "vgg-11": 17, "vgg-gap": 16}


def small_shape(name: str, channels: int) -> tuple[int, int, int]:
    side = SMALL_SIDE.get(name, 8)
    return channels, side, side


@pytest.fixture(scope="module")
def built() -> dict[str, nn.Module]:
    return {name: build_model(name, shape=small_shape(name, 3), num_classes=5, seed=0) for name in ALL}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 5), (4, 11)])
def test_forward_and_backward(name: str, channels: int, classes: int) -> None:
    shape = small_shape(name, channels)
    model = build_model(name, shape=shape, num_classes=classes, seed=1)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = x.detach().clone()
    logits = model(x)
    assert logits.shape == (3, classes)
    F.cross_entropy(logits, torch.full((3, classes), 1 / classes)).backward()
    assert torch.equal(x.detach(), before)
    assert x.grad is not None
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), key  # nothing stands beside the path from images to logits


@pytest.mark.parametrize("name", ALL)
def test_channels_last_gives_the_same(name: str, built: dict[str, nn.Module]) -> None:
    model = copy.deepcopy(built[name]).eval()
    x = torch.randn(2, *small_shape(name, 3), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model(x)
        last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_stage_names_lead_in_order_to_maps_of_the_batch(name: str, built: dict[str, nn.Module]) -> None:
    model = copy.deepcopy(built[name]).eval()
    called: list[tuple[str, Tensor]] = []
    for stage in model.stage_names:
        model.get_submodule(stage).register_forward_hook(
            lambda _module, _inputs, output, stage=stage: called.append((stage, output))
        )
    x = torch.randn(2, *small_shape(name, 3), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        plain = model(x)
    assert [stage for stage, _ in called] == list(model.stage_names)
    assert all(output.shape[0] == 2 for _, output in called)
    # the logits depend on the hidden maps only: swapping the two samples' maps swaps their logits
    for stage in model.stage_names:
        handle = model.get_submodule(stage).register_forward_hook(lambda _m, _i, output: output.flip(0))
        with torch.inference_mode():
            torch.testing.assert_close(model(x), plain.flip(0), rtol=1e-4, atol=1e-5)
        handle.remove()


@pytest.mark.parametrize("name", ALL)
def test_state_dict_round_trip(name: str, built: dict[str, nn.Module]) -> None:
    other = build_model(name, shape=small_shape(name, 3), num_classes=5, seed=99)
    x = torch.randn(2, *small_shape(name, 3), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        expected = copy.deepcopy(built[name]).eval()(x)
        assert not torch.equal(other.eval()(x), expected)
        other.load_state_dict(built[name].state_dict())
        assert torch.equal(other(x), expected)


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("side", [(28, 28), (32, 32), (45, 30)])
def test_other_image_sizes(name: str, side: tuple[int, int]) -> None:
    model = build_model(name, shape=(1, *side), num_classes=3, seed=0).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 1, *side)).shape == (1, 3)


@pytest.mark.parametrize("name", ["tiny", "preact-resnet-20", "densenet-bc-10-4"])
def test_compiles_without_graph_breaks(name: str) -> None:
    model = build_model(name, shape=(1, 8, 8), num_classes=3, seed=0).eval()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), model(x))


def test_he_initialisation_spreads_by_fan_out() -> None:
    conv = nn.Conv2d(64, 32, 3)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        init_convs(conv)
    assert conv.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.02)
    assert conv.bias is not None
    assert conv.bias.count_nonzero() == 0
    wide = build_model("wrn-10-2", shape=(3, 8, 8), num_classes=2, seed=0)
    weight = wide.get_parameter("stage3.0.conv1.weight")
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


def test_pad_shortcut_by_hand() -> None:
    x = torch.arange(18.0).reshape(1, 2, 3, 3)
    expected = torch.zeros(1, 3, 2, 2)
    expected[0, 0] = torch.tensor([[0.0, 2.0], [6.0, 8.0]])
    expected[0, 1] = torch.tensor([[9.0, 11.0], [15.0, 17.0]])
    assert torch.equal(PadShortcut(1, stride=2)(x), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_preact_block_without_residual_is_its_shortcut(stride: int) -> None:
    x = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    same = PreActBlock(16, 16).eval()
    padded = PreActBlock(16, 32, stride, shortcut="pad").eval()
    projected = PreActBlock(16, 32, stride).eval()
    for block in (same, padded, projected):
        nn.init.zeros_(block.conv2.weight)
    assert torch.equal(same(x), x)  # an identity mapping: not even a ReLU behind the sum
    assert torch.equal(padded(x)[:, :16], x[:, :, ::stride, ::stride])
    active = F.relu(x / (1 + 1e-5) ** 0.5)[:, :, ::stride, ::stride]  # batch norm with fresh statistics
    by_hand = torch.einsum("oi,nihw->nohw", projected.shortcut.weight[:, :, 0, 0], active)
    torch.testing.assert_close(projected(x), by_hand, rtol=1e-4, atol=1e-5)


def test_dla_root_sees_the_input_and_every_link_of_the_chain() -> None:
    tree = Tree(4, 8, levels=3, stride=2).eval()
    seen: list[tuple[Tensor, ...]] = []
    tree.root.register_forward_pre_hook(lambda _module, maps: seen.append(maps))
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    tree(x)
    assert tree.direct is not None
    assert [type(part) for part in tree.chain] == [Tree, Tree, BasicBlock, BasicBlock]
    (maps,) = seen
    expected, link = [tree.direct(x)], x
    for part in tree.chain:
        link = part(link)
        expected.append(link)
    assert len(maps) == 5
    for got, want in zip(maps, expected, strict=True):
        assert got.shape == (1, 8, 4, 4)
        assert torch.equal(got, want)


def test_preact_56_has_the_depth_and_widths_of_its_name() -> None:
    with torch.device("meta"):
        model = PreActResNet(56)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) + 1 == 56  # with the linear layer
    assert [c.out_channels for c in convs] == [16] * 19 + [32] * 18 + [64] * 18
    assert not any(c.kernel_size == (1, 1) for c in convs)  # all shortcuts are free of parameters


def test_group_norm_keeps_samples_apart_and_batch_norm_does_not() -> None:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[1:] *= 5
    group = WideResNet(10, 2, norm="group").train()
    batch = WideResNet(10, 2, norm="batch").train()
    torch.testing.assert_close(group(x)[0], group(changed)[0])
    assert not torch.allclose(batch(x)[0], batch(changed)[0], atol=1e-3)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in group.modules())


@pytest.mark.parametrize(("spec", "blocks"), [("wrn-10-1", 3), ("preact-resnet-20", 9), ("preact-resnet-18", 8)])
def test_dropout_acts_in_training_only(spec: str, blocks: int) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = build_model(f"{spec}:dropout=0.5", shape=(3, 8, 8), num_classes=4, seed=0)
    kept, plain = model.state_dict(), build_model(spec, shape=(3, 8, 8), num_classes=4, seed=0)
    dropped = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in dropped] == [0.5] * blocks  # one between the two convolutions of every block
    assert all(torch.equal(kept[name], value) for name, value in plain.state_dict().items())
    model.eval()
    assert torch.equal(model(x), plain.eval()(x))
    for module in dropped:
        module.train()
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(model(x), model(x))
    assert not any(isinstance(m, nn.Dropout) for m in plain.modules())


def test_vgg_gap_has_a_map_a_sixteenth_of_the_side_and_averages_it() -> None:
    model = build_model("vgg-gap", shape=(3, 48, 32), num_classes=5, seed=0).eval()
    x = torch.randn(2, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    maps = x
    for name in (*model.stage_names, "top"):
        maps = model.get_submodule(name)(maps)
    assert maps.shape == (2, 1024, 3, 2)
    assert (maps >= 0).all()
    with torch.no_grad():  # a map of a class, averaged, is its logit: what a class activation map needs
        of_class = torch.einsum("kc,nchw->nkhw", model.classifier.weight, maps)
        torch.testing.assert_close(model(x), of_class.mean((2, 3)) + model.classifier.bias)


def test_tiny_halves_large_images_only() -> None:
    sizes = {}
    for side in (8, 27, 28, 32):
        model = TinyResNet(in_channels=1, image_size=side).eval()
        sizes[side] = tuple(model.stage1(model.stem(torch.zeros(1, 1, side, side))).shape[2:])
    assert sizes == {8: (8, 8), 27: (27, 27), 28: (14, 14), 32: (16, 16)}


def test_fcnet_is_two_affine_maps() -> None:
    model = FCNet(6, in_channels=2, num_classes=3, image_size=(2, 3))
    x = torch.randn(4, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    first, last = model.hidden[1], model.classifier
    hidden = (x.reshape(4, 12) @ first.weight.T + first.bias).clamp_min(0)
    torch.testing.assert_close(model(x), hidden @ last.weight.T + last.bias)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: WideResNet(17, 1), "6n \\+ 4 \\(10, 16, 22, 28"),
        (lambda: WideResNet(16, 0), "1 or more"),
        (lambda: WideResNet(16, 1, dropout=1.0), "below 1"),
        (lambda: WideResNet(16, 1, norm="grup"), "did you mean 'group'"),
        (lambda: PreActResNet(18, dropout=-0.1), "at least 0"),
        (lambda: PreActResNet(19), "18 or 6n \\+ 2"),
        (lambda: LeNet(image_size=15), "16 x 16"),
        (lambda: TinyResNet(image_size=(32, 7)), "8 x 8"),
        (lambda: FCNet(0), "1 or more"),
    ],
)
def test_constructors_refuse(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=said):
        make()
