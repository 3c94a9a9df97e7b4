"""Weights from files: what is loaded, renamed, adapted, and refused."""

from __future__ import annotations

import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import lessonplan as lp
from lessonplan.child import python
from lessonplan.errors import ConfigError
from lessonplan.integrations.packages import need
from lessonplan.models import build_model
from lessonplan.pretrained import find_head, put_weights, read_weights
from lessonplan.train.origin import origin_of

LITE0 = "timm:tf_efficientnet_lite0"


def test_renamed_weights_give_the_same_logits_in_both_libraries(timm: Any, lite0: Path) -> None:
    """The file is of efficientnet_lite_pytorch, whose names are others than timm's."""
    library = pytest.importorskip("efficientnet_lite_pytorch")
    theirs = library.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(lite0, weights_only=True))
    ours = build_model(LITE0, shape=(3, 96, 96), num_classes=1000).eval()
    match = put_weights(ours, read_weights(lite0), find_head(ours))
    assert (match.fresh, match.unused, match.renamed > 200) == ((), 0, True)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(theirs.eval()(x), ours(x))


def test_a_head_for_other_classes_begins_at_zeros(timm: Any, lite0: Path) -> None:
    state = read_weights(lite0)
    origin = origin_of(LITE0, str(lite0))
    network, match = origin.network(shape=(3, 64, 64), num_classes=5, seed=1)
    assert network.classifier.weight.shape == (5, 1280)
    assert torch.equal(network.conv_stem.weight, state["_conv_stem.weight"])
    assert not network(torch.randn(2, 3, 64, 64)).any(), "random logits would disturb what is good"
    assert str(match).endswith("2 left out; new: classifier.weight, classifier.bias")
    kept, _ = origin.network(shape=(3, 64, 64), num_classes=1000, seed=1)
    assert torch.equal(kept.classifier.weight, state["_fc.weight"])


def test_grey_images_see_the_sum_of_the_colours(timm: Any, lite0: Path) -> None:
    """A grey picture in three equal channels and the summed first layer give the same."""
    state = read_weights(lite0)
    nets = []
    for channels in (1, 3):
        net = build_model(LITE0, shape=(channels, 64, 64), num_classes=1000).eval()
        put_weights(net, state, find_head(net))
        nets.append(net)
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(nets[0](grey), nets[1](grey.expand(-1, 3, -1, -1)), atol=1e-3, rtol=1e-4)


def test_weights_of_grey_images_for_colours() -> None:
    grey = build_model("tiny", shape=(1, 8, 8), num_classes=3, seed=0).eval()
    colour = build_model("tiny", shape=(3, 8, 8), num_classes=3, seed=1).eval()
    match = put_weights(colour, grey.state_dict(), find_head(colour))
    assert match.adapted
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(colour(x.expand(-1, 3, -1, -1)), grey(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
@pytest.mark.parametrize("inside", [None, "state_dict", "model"])
def test_prefixes_and_wrappers_are_seen_through(prefix: str, inside: str | None, tmp_path: Path) -> None:
    net = build_model("tiny", shape=(1, 8, 8), num_classes=3, seed=0)
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    torch.save(state if inside is None else {inside: state, "epoch": 3}, tmp_path / "w.pth")
    other = build_model("tiny", shape=(1, 8, 8), num_classes=3, seed=1)
    match = put_weights(other, read_weights(tmp_path / "w.pth"), find_head(other))
    assert match.renamed == 0
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_position_embeddings_are_resampled(timm: Any, tmp_path: Path) -> None:
    name = "timm:vit_tiny_patch16_224"
    small, large = (build_model(name, shape=(3, side, side), num_classes=2, seed=0) for side in (32, 64))
    safetensors.torch.save_file(small.state_dict(), tmp_path / "vit.safetensors")
    match = put_weights(large, read_weights(tmp_path / "vit.safetensors"), "head")
    assert match.adapted == ("pos_embed to 4 x 4 patches",)
    prefix = small.num_prefix_tokens
    grid = small.pos_embed[:, prefix:].detach().reshape(1, 2, 2, -1).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, (4, 4), mode="bicubic", antialias=True).flatten(2).mT
    torch.testing.assert_close(large.pos_embed[:, prefix:], expected, atol=1e-5, rtol=1e-4)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run!",))


def test_a_pickle_with_code_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, write in (("a.pth", lambda f: torch.save({"w": Evil()}, f)), ("b.pkl", lambda f: _pickle(f))):
        write(tmp_path / name)
        with pytest.raises(ConfigError, match=r"would run code|cannot be read as weights"):
            read_weights(tmp_path / name)
    assert "run!" not in capsys.readouterr().out


def _pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps(Evil()))


def test_what_is_no_weights(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "text.pth").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, said in (
        ("text.safetensors", "cannot be read as weights"),
        ("text.pth", "cannot be read as weights"),
        ("list.pth", "holds a list without tensors"),
        ("none.pth", "is not there"),
    ):
        with pytest.raises(ConfigError, match=said):
            origin_of("tiny", str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"is a folder \(kind0, kind1, kind2\) and no run"):
        origin_of("tiny", str(photos))
    with pytest.raises(ConfigError, match="timm:NAME and transformers:NAME have some"):
        origin_of("tiny", "pretrained")


def test_weights_of_another_architecture_name_the_model_that_they_fit(timm: Any, tmp_path: Path) -> None:
    net = build_model("timm:resnet10t", shape=(3, 32, 32), num_classes=2)
    torch.save(net.state_dict(), tmp_path / "resnet10t_mine.pth")
    origin = origin_of("timm:resnet18", str(tmp_path / "resnet10t_mine.pth"))
    with pytest.raises(
        ConfigError, match=r"not those of timm:resnet18: .* tensors fit.*; they fit timm:resnet10t"
    ):
        origin.network(shape=(3, 32, 32), num_classes=2, seed=0)


def test_networks_that_weights_cannot_tell_apart_are_all_named(timm: Any, lite0: Path) -> None:
    """They differ in their padding alone."""
    origin = origin_of("timm:resnet18", str(lite0))
    with pytest.raises(ConfigError, match=f"they fit timm:efficientnet_lite0 or {LITE0}$"):
        origin.network(shape=(3, 64, 64), num_classes=2, seed=0)


def test_a_comparison_finds_out_before_its_runs(tmp_path: Path, photos: Path) -> None:
    """What would fail in every run, after minutes of fetching perhaps, fails once and leaves nothing."""
    build = build_model("fcnet-16", shape=(1, 8, 8), num_classes=10, seed=0)
    torch.save(build.state_dict(), tmp_path / "other.pth")
    options: dict[str, Any] = {"data": "digits", "model": "tiny", "seeds": 3, "budget": "2 steps", "jobs": 1}
    for settings, said in (
        ({"weights": str(tmp_path / "other.pth")}, "are not those of tiny"),
        ({"weights": str(tmp_path / "none.pth")}, "is not there"),
    ):
        with pytest.raises(ConfigError, match=said):
            lp.compare("erm,mixup", out=tmp_path / "out", settings=settings, **options)
        with pytest.raises(ConfigError, match=said):
            lp.compare([f"a=weights:{settings['weights']}", "erm"], out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_head_gives_a_number_for_each_class(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(ConfigError, match=r"head='1' gives 8 numbers and there are 10 classes: .* ones are 1, 3"):
        lp.fit(net, "digits", budget="1 steps", tune="head", head="1")
    lp.fit(net, "digits", budget="1 steps", tune="head", head="3", feature_cache=str(tmp_path))


def test_heads() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert find_head(net) == "3"
    assert find_head(net, "1") == "1"
    with pytest.raises(ConfigError, match="no such module: its last ones are 1, 3"):
        find_head(net, "fc")
    without = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    with pytest.raises(ConfigError, match="no head was recognised"):
        find_head(without)


def test_timm_fetches_or_says_what_to_bring(timm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real download, from a file beside the cache, and without a net."""
    net = timm.create_model("resnet10t", num_classes=7)
    safetensors.torch.save_file(net.state_dict(), tmp_path / "model.safetensors")
    cfg = timm.get_pretrained_cfg("resnet10t")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def fetched(repo_id: str, filename: str, **_: Any) -> str:
        assert (repo_id, "safetensors" in filename) == (cfg.hf_hub_id, True)
        return str(tmp_path / "model.safetensors")

    hub = __import__("timm.models._hub", fromlist=["hf_hub_download"])
    with monkeypatch.context() as patched:
        patched.setattr(hub, "hf_hub_download", fetched)
        cfg7 = {"num_classes": 7}
        origin = origin_of("timm:resnet10t", "pretrained")
        assert origin.state is None
        loaded = timm.create_model("resnet10t", pretrained=True, num_classes=7, pretrained_cfg_overlay=cfg7)
        assert torch.equal(loaded.fc.weight, net.fc.weight)
        ours, match = origin.network(shape=(3, 32, 32), num_classes=2, seed=0)  # a head for other classes
        assert str(match) == f"{len(net.state_dict()) - 2} tensors loaded; new: fc.weight, fc.bias"
        assert torch.equal(ours.conv1[0].weight, net.conv1[0].weight)
        assert ours.fc.weight.shape == (2, 512)
        assert not ours(torch.randn(2, 3, 32, 32)).any()

    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no route to the hub")

    monkeypatch.setattr(hub, "hf_hub_download", offline)
    with pytest.raises(ConfigError, match=r"bring model.safetensors from https://huggingface.co/timm/resnet10t"):
        origin_of("timm:resnet10t", "pretrained").network(shape=(3, 32, 32), num_classes=2, seed=0)


def test_a_tag_wants_to_be_asked_for(timm: Any) -> None:
    with pytest.raises(ConfigError, match="give weights='pretrained'"):
        build_model("timm:resnet10t.c3_in1k", shape=(3, 32, 32), num_classes=2)
    origin = origin_of("timm:resnet10t.c3_in1k", "pretrained")
    assert origin.plain == "timm:resnet10t"
    assert origin.needs.mean == (0.485, 0.456, 0.406)


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """The folder of a small classifier of transformers, of 32 pixels."""
    pytest.importorskip("transformers")
    library = need("transformers", "transformers")
    config = library.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32,
        patch_size=8, num_labels=3,
    )  # fmt: skip
    model = library.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "resample": 3,'
        ' "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}'
    )
    return tmp_path / "vit"


def test_an_image_classifier_of_transformers(vit: Path, tmp_path: Path, photos: Path) -> None:
    run = lp.fit(
        f"transformers:{vit}", f"folder:{photos}", None, "2 steps", weights="pretrained", lr=1e-4,
        out=tmp_path / "run", threads=1,
    )  # fmt: skip
    assert run.model.model.config.num_labels == 3
    prepared = lp.load(tmp_path / "run").preprocessing
    assert (prepared.shape, prepared.decoding.interpolation) == ((3, 32, 32), "bicubic")
    assert prepared.mean == pytest.approx((0.5, 0.4, 0.3))
    with pytest.raises(ConfigError, match="cannot make an image classifier"):
        build_model(f"transformers:{tmp_path / 'none'}", shape=(3, 32, 32), num_classes=3)


def test_a_classifier_of_transformers_is_built_in_a_fresh_process(vit: Path) -> None:
    """transformers imports torchvision late, whose operators are missing beside a CPU build of torch."""
    code = "from lessonplan.models import build_model;"
    code += f" build_model('transformers:{vit}', shape=(3, 32, 32), num_classes=3)"
    done = subprocess.run(python(code), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]


def test_a_file_of_a_model_of_transformers(vit: Path, tmp_path: Path) -> None:
    """Its names lie one level deeper in our network; what its processor does comes with it."""
    model = build_model(f"transformers:{vit}", shape=(3, 32, 32), num_classes=3, seed=1).model
    torch.save(model.state_dict(), tmp_path / "own.pth")
    origin = origin_of(f"transformers:{vit}", str(tmp_path / "own.pth"))
    network, match = origin.network(shape=(3, 32, 32), num_classes=3, seed=0)
    assert match.fresh == ()
    own = network.state_dict()
    assert all(torch.equal(own[f"model.{name}"], value) for name, value in model.state_dict().items())
    assert origin.needs == origin_of(f"transformers:{vit}", "pretrained").needs
    words = rf"transformers writes other names .* model='transformers:{vit}' and weights='pretrained'"
    with pytest.raises(ConfigError, match=words):
        origin_of(f"transformers:{vit}", str(vit / "model.safetensors")).network(
            shape=(3, 32, 32), num_classes=3, seed=0
        )


@pytest.mark.parametrize(
    ("said", "share"),
    [
        ('"size": {"shortest_edge": 224}, "crop_pct": 0.875', 0.875),
        ('"size": {"shortest_edge": 384}, "crop_pct": 0.875', 1.0),  # resized to the whole
        ('"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}', 0.875),
        ('"size": {"height": 32, "width": 32}', 1.0),
    ],
)
def test_the_crop_of_a_processor_of_transformers(vit: Path, said: str, share: float) -> None:
    """ConvNeXt's says a share, below 384 pixels; others the side that is left."""
    (vit / "preprocessor_config.json").write_text(f'{{"image_processor_type": "ViTImageProcessor", {said}}}')
    assert origin_of(f"transformers:{vit}", "pretrained").needs.crop == share


def test_grey_images_and_other_sizes_for_a_model_of_transformers(vit: Path) -> None:
    network, _ = origin_of(f"transformers:{vit}", "pretrained").network(shape=(1, 64, 64), num_classes=3, seed=0)
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network.eval()(grey)
        expected = network.model(pixel_values=grey.repeat(1, 3, 1, 1), interpolate_pos_encoding=True).logits
    assert torch.equal(logits, expected)
    assert logits.std() > 0


def test_weights_of_a_larger_network_are_refused() -> None:
    """All that the smaller one has would fit, and the network would be half of one."""

    def net(depth: int) -> nn.Module:
        body = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth)]
        parts = {"body": nn.Sequential(*body), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
        return nn.Sequential(OrderedDict(**parts, fc=nn.Linear(3, 2)))

    small, large = net(2), net(3)
    with pytest.raises(ConfigError, match=r"4 tensors fit, and 1 of the file have no place.* \(body\.2\.weight"):
        put_weights(small, large.state_dict(), "fc")
    with_decoder = {**small.state_dict(), "decoder.0.weight": torch.zeros(3, 3)}
    assert put_weights(net(2), with_decoder, "fc").unused == 1
