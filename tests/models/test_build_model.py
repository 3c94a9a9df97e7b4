"""Spellings, errors, reproducibility and the global generators."""

from __future__ import annotations

import random
import subprocess
import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lessonplan.models as models
from lessonplan.errors import ConfigError
from lessonplan.models import build_model, check_model, model_names
from lessonplan.models.spec import parse
from lessonplan.models.table import FAMILIES


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_same_seed_same_weights() -> None:
    def build(seed: int | None) -> torch.Tensor:
        return weights(build_model("tiny", shape=(1, 8, 8), num_classes=3, seed=seed))

    assert torch.equal(build(7), build(7))
    assert not torch.equal(build(7), build(8))
    assert not torch.equal(build(None), build(None))


@pytest.mark.parametrize("seed", [None, 0])
def test_global_generators_are_left_alone(seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_seed: int) -> None:
        raise AssertionError("the GPUs' generators were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", forbidden)
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    build_model("lenet", shape=(1, 28, 28), num_classes=3, seed=seed)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_seed_does_not_depend_on_the_global_state() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        first = weights(build_model("fcnet-3", shape=(4,), num_classes=2, seed=0))
        torch.default_generator.manual_seed(2)
        assert torch.equal(weights(build_model("fcnet-3", shape=(4,), num_classes=2, seed=0)), first)


@pytest.mark.parametrize("name", model_names())
def test_every_example_builds_and_is_checked_alike(name: str) -> None:
    check_model(name, (3, 32, 32))
    with torch.device("meta"):
        model = build_model(f" {name.upper()} ", shape=(3, 32, 32), num_classes=4)
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("tniy", "did you mean 'tiny'"),
        ("wrn-28", "did you mean 'wrn-28-10'"),
        ("resnet18", "did you mean 'resnet-18'"),
        ("timm", "timm:NAME"),
        ("timm:", "timm:resnet18"),
        ("wrn-27-10", "depth 27 .* 6n \\+ 4"),
        ("wrn-4-1", "depth 4 "),
        ("wrn-16-0", "widening factor .* got 0"),
        ("preact-resnet-19", "18 or 6n \\+ 2"),
        ("densenet-bc-101-12", "6n \\+ 4"),
        ("densenet-bc-100-0", "growth"),
        ("fcnet-0", "hidden units"),
        ("wrn-\u0661\u0666-\u0661", "unknown model"),  # other scripts' digits are no numbers here
    ],
)
def test_wrong_spellings(spec: str, said: str) -> None:
    for attempt in (
        lambda: check_model(spec),
        lambda: build_model(spec, shape=(3, 32, 32), num_classes=10),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "shape", "classes", "said"),
    [
        ("vgg-11", (1, 8, 8), 10, "vgg-11 needs images of at least 17 x 17 pixels, got 8 x 8: .* such as tiny"),
        ("tiny", (1, 4, 4), 10, r"tiny needs images of at least 8 x 8 .* such as fcnet-100 \(any size\)"),
        ("lenet", (1, 8, 8), 10, "16 x 16"),
        ("tiny", (1, 8, 7), 10, "8 x 8"),
        ("tiny", (64,), 10, "use fcnet-N"),
        ("timm:resnet18", (64,), 10, "resnet18 takes images"),
        ("tiny", (8, 8), 10, "neither"),
        ("tiny", (0, 8, 8), 10, "neither"),
        ("fcnet-5", (), 10, "neither"),
        ("tiny", (1, 8, 8), 0, "num_classes must be 1 or more, got 0"),
    ],
)
def test_wrong_shapes(spec: str, shape: tuple[int, ...], classes: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_model(spec, shape=shape, num_classes=classes)


@pytest.mark.parametrize("name", [n for n in model_names() if not n.endswith(("190-40", "28-10"))])
def test_the_smallest_images_allowed_reach_the_logits(name: str) -> None:
    side = FAMILIES[parse(name).family].least_side
    with torch.device("meta"):
        model = build_model(name, shape=(1, side, side + 1), num_classes=3)
        assert model(torch.zeros(2, 1, side, side + 1)).shape == (2, 3)


@given(depth=st.integers(0, 300), widen=st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_wide_depths_are_taken_exactly_when_blocks_come_out_whole(depth: int, widen: int) -> None:
    allowed = depth in {6 * n + 4 for n in range(1, 51)} and widen >= 1
    try:
        check_model(f"wrn-{depth}-{widen}")
    except ConfigError:
        assert not allowed
    else:
        assert allowed


def test_weights_are_on_the_cpu_whatever_the_default_device() -> None:
    with torch.device("meta"):
        assert next(build_model("tiny", shape=(1, 8, 8), num_classes=2).parameters()).is_meta
    assert next(build_model("tiny", shape=(1, 8, 8), num_classes=2).parameters()).device.type == "cpu"


def test_public_names_exist_and_others_do_not() -> None:
    for name in models.__all__:
        assert getattr(models, name).__name__ == name
    assert set(models.__all__) <= set(dir(models))
    with pytest.raises(AttributeError, match="ResNet19"):
        _ = models.ResNet19


def test_checking_a_name_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from lessonplan.models import check_model, model_names\n"
        "check_model('wrn-28-10', (3, 32, 32)); model_names()\n"
        "assert 'torch' not in sys.modules\n"
        "import lessonplan.models as m; m.build_model\n"
        "assert 'torch' in sys.modules and not {'timm', 'torchvision', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class FakeTimm(types.ModuleType):
    """Behaves like timm for one convolutional network and one transformer."""

    def __init__(self) -> None:
        super().__init__("timm")
        self.calls: list[dict[str, object]] = []

    def list_models(self) -> list[str]:
        return ["resnet18", "vit_tiny_patch16_224"]

    def is_model(self, name: str) -> bool:
        return name.partition(".")[0] in self.list_models()

    def create_model(self, name: str, **options: object) -> nn.Module:
        if name == "resnet18" and "img_size" in options:
            raise TypeError("unexpected keyword argument 'img_size'")
        if name.endswith(".nope"):
            raise RuntimeError("Invalid pretrained tag (nope)")
        self.calls.append(options)
        return nn.Linear(1, 1)


def test_timm_models(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = FakeTimm()
    monkeypatch.setitem(sys.modules, "timm", timm)
    one = build_model("timm:resnet18", shape=(1, 28, 30), num_classes=7, seed=3)
    two = build_model("timm:resnet18", shape=(1, 28, 30), num_classes=7, seed=3)
    assert torch.equal(weights(one), weights(two))
    plain = {"pretrained": False, "in_chans": 1, "num_classes": 7}
    assert timm.calls == [plain, plain]
    build_model("timm:vit_tiny_patch16_224", shape=(1, 28, 30), num_classes=7)
    assert timm.calls[-1] == {**plain, "img_size": (28, 30)}
    with pytest.raises(ConfigError, match="did you mean 'timm:resnet18'"):
        build_model("timm:resnet-18", shape=(1, 28, 30), num_classes=7)
    with pytest.raises(
        ConfigError, match=r"'timm:resnet18\.nope' names pretrained weights \(nope\).*write 'timm:resnet18'"
    ):
        build_model("timm:resnet18.nope", shape=(1, 28, 30), num_classes=7)


@pytest.fixture
def modules_come_back() -> Iterator[None]:
    """What a broken import takes from ``sys.modules`` is what other tests have imported before."""
    kept = {name: module for name, module in sys.modules.items() if name.startswith(("timm", "torchvision"))}
    yield
    for name in [name for name in sys.modules if name.startswith(("timm", "torchvision"))]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.mark.usefixtures("modules_come_back")
def test_timm_missing_or_broken(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path_factory.mktemp("empty"))])
    with pytest.raises(ConfigError, match="pip install 'lessonplan\\[timm\\]'"):
        build_model("timm:resnet18", shape=(3, 32, 32), num_classes=2)
    for body, said in [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "nms does not exist"),
        ("import surely_not_installed", "No module named 'surely_not_installed'.*: install"),
    ]:
        folder = tmp_path_factory.mktemp("broken")
        (folder / "timm.py").write_text(body)
        monkeypatch.setattr(sys, "path", [str(folder)])
        with pytest.raises(ConfigError, match=said):
            build_model("timm:resnet18", shape=(3, 32, 32), num_classes=2)
