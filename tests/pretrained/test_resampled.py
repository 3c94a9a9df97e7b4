"""Weights of timm's networks at another size, or under their authors' names: as timm itself loads them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.pretrained import find_head, put_weights

_SWIN = {"embed_dim": 12, "depths": (1, 2), "num_heads": (1, 2)}
_BEIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}
_NETS = [
    ("swin_tiny_patch4_window7_224", _SWIN, 2),  # the first stage has windows of 7 in both
    ("swinv2_tiny_window8_256", _SWIN, 0),  # its biases come from a network of coordinates
    ("beit_base_patch16_224", _BEIT, 2),
    ("vit_relpos_small_patch16_224", {**_BEIT, "rel_pos_type": "bias"}, 2),
]


def net(timm: Any, name: str, options: dict[str, Any], side: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = timm.create_model(name, img_size=side, num_classes=3, **options).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # tables begin at zeros in some, in which nothing would be seen
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    return network


@pytest.mark.parametrize(("name", "options", "tables"), _NETS)
def test_relative_positions_are_those_that_timm_makes(timm: Any, name: str, options: Any, tables: int) -> None:
    small, large = (net(timm, name, options, side, seed) for side, seed in ((32, 0), (96, 1)))
    theirs = net(timm, name, options, 96, 2)
    home = importlib.import_module(type(theirs).__module__)
    theirs.load_state_dict(home.checkpoint_filter_fn(dict(small.state_dict()), theirs))
    match = put_weights(large, small.state_dict(), find_head(large))
    assert match.fresh == ()
    assert (f"{tables} tables of relative positions resampled" in str(match)) == (tables > 0)
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, large.state_dict()[key]), key
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(large(x), theirs(x))


def test_a_table_is_what_timms_function_gives(timm: Any) -> None:
    small, large = (net(timm, "beit_base_patch16_224", _BEIT, side, seed) for side, seed in ((32, 0), (64, 1)))
    put_weights(large, small.state_dict(), "head")
    name = "blocks.1.attn.relative_position_bias_table"
    layers = importlib.import_module("timm.layers")
    expected = layers.resize_rel_pos_bias_table(small.state_dict()[name], (4, 4), large.state_dict()[name].shape)
    assert small.state_dict()[name].shape != expected.shape
    assert torch.equal(large.state_dict()[name], expected)


def as_microsoft_has_it(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Swin's authors downsample at the end of a stage, and their head is no part of a module."""
    return {
        name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc.", "head."): value
        for name, value in state.items()
    }


def test_files_of_the_authors_are_read_as_timm_reads_them(timm: Any) -> None:
    theirs, ours = (net(timm, "swin_tiny_patch4_window7_224", _SWIN, 32, seed) for seed in (0, 1))
    match = put_weights(ours, as_microsoft_has_it(theirs.state_dict()), "head.fc")
    assert str(match) == f"{len(theirs.state_dict())} tensors loaded; renamed as timm does"
    for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_run_at_another_size(
    timm: Any, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = timm.create_model("swin_tiny_patch4_window7_224", img_size=224, num_classes=3)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "swin.safetensors")
    data = lp.data.load(f"folder:{photos}", image_size=64)
    run = lp.fit(
        "timm:swin_tiny_patch4_window7_224", data, None, "1 steps", lr=1e-4, schedule="constant", batch_size=4,
        weights=str(tmp_path / "swin.safetensors"), tune="head", features="off", threads=1,
    )  # fmt: skip
    assert "tables of relative positions resampled" in capsys.readouterr().err
    assert torch.equal(run.model.patch_embed.proj.weight, network.patch_embed.proj.weight)
