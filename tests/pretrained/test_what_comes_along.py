"""What belongs to weights goes with a run to predict, evaluate and export; weights from the hub too."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import lessonplan as lp
from lessonplan.cli import main
from lessonplan.data.needs import InputNeeds
from lessonplan.data.pixels import Decoding, from_pil
from lessonplan.errors import ConfigError
from lessonplan.models.timm_adapter import build_timm, timm_input
from lessonplan.train.origin import origin_of

LITE0 = "timm:tf_efficientnet_lite0"


def command(*words: str | Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0


_SIZES = [(320, 400), (400, 320), (240, 480), (320, 480), (480, 320), (320, 320), (256, 512), (320, 560)]
"""Height and width that timm brings to the same size as we do, a whole number: it cuts off, and we round."""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of two photographs of scikit-learn, wide and tall, as PNG and JPEG."""
    root = tmp_path_factory.mktemp("real")
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (root / name).mkdir()
        for i, (height, width) in enumerate(_SIZES):
            part = pixels[3 * i : 3 * i + height, 5 * i : 5 * i + width]
            Image.fromarray(part).save(root / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


@pytest.fixture(scope="module")
def run(lite0: Path, real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from real weights, at the size that they ask for."""
    at = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LESSONPLAN_CACHE", str(at / "cache"))
        lp.fit(
            LITE0, f"folder:{real}", None, "3 steps", weights=str(lite0), tune="head", batch_size=4,
            out=at / "run", threads=1,
        )  # fmt: skip
    return at / "run"


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0.in1k", "convnext_atto.d2_in1k", "tf_mobilenetv3_small_100.in1k"]
)
def test_pictures_are_what_timms_own_transform_makes_of_them(timm: Any, real: Path, name: str) -> None:
    """Bicubic and bilinear, with a crop of 87.5%, and means of their own; in training and afterwards."""
    told = timm_input(name)
    data = lp.data.load(f"folder:{real}", input=InputNeeds.of_timm(told), augment="none")
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=told))
    files = sorted(real.rglob("*.*g"))
    expected = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    found = data.preprocessing([str(file) for file in files])
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    seen, _ = data.train.fetch(torch.arange(len(data.train)))
    apart = torch.cdist(seen.flatten(1), found.flatten(1))
    assert (apart < 1e-3).sum(1).tolist() == [1] * len(seen), "each is one of the files"


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"])
def test_of_any_size_they_are_timms_to_the_pixel(timm: Any, name: str) -> None:
    """224 / 0.9 is 248 there and 249 here: sizes behind resizing differ by two pixels at most, corners by one."""
    told = timm_input(name)
    resize, *_ = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=told)).transforms
    needs = InputNeeds.of_timm(told)
    assert (needs.crop < 1, needs.interpolation) == (True, "bicubic")
    decoding = Decoding(interpolation=needs.interpolation, crop=needs.crop)
    for height, width in ((401, 300), (333, 517)):
        image = Image.fromarray(load_sample_images().images[0][:height, :width])
        ours, (wide, tall) = from_pil(image, 3, (224, 224), decoding), resize(image).size
        left, top = (wide - 224) // 2, (tall - 224) // 2
        found = [
            size
            for size in product(range(wide - 2, wide + 3), range(tall - 2, tall + 3))
            for pixels in [np.asarray(image.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)]
            for x, y in product((left - 1, left, left + 1), (top - 1, top, top + 1))
            if np.array_equal(pixels[:, y : y + 224, x : x + 224], ours)
        ]
        assert len(found) == 1


def test_predict_shows_the_network_what_training_did(run: Path, timm: Any, real: Path, tmp_path: Path) -> None:
    """From the stored run alone, by timm's own transform, and by the command."""
    classifier, told = lp.load(run), timm_input("tf_efficientnet_lite0")
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=told))
    files = sorted(real.rglob("*.*g"))
    with torch.no_grad():
        logits = classifier.model(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
    torch.testing.assert_close(classifier.predict(files), logits.softmax(1), atol=1e-5, rtol=1e-4)
    command("predict", run, real / "china", "--out", tmp_path / "said.csv")
    with (tmp_path / "said.csv").open() as table:
        said = {Path(row["file"]).name: row["class"] for row in csv.DictReader(table)}
    told = {
        f.name: classifier.class_names[i]
        for f, i in zip(files, logits.argmax(1), strict=True)
        if "china" in str(f)
    }
    assert said == told


def test_evaluate_judges_a_run_from_weights_by_its_own_pictures(run: Path, real: Path, tmp_path: Path) -> None:
    command("evaluate", run, "--out", tmp_path / "judged")
    found = json.loads((tmp_path / "judged" / "evaluation.json").read_text())["parts"]["classification"]
    stored = json.loads((run / "result.json").read_text())["test"]
    assert found["accuracy"] == pytest.approx(stored["accuracy"])
    assert found["loss"] == pytest.approx(stored["loss"], rel=1e-3)  # of features of 16 bits
    with (run / "predictions.csv").open() as table:
        rows = list(csv.DictReader(table))
    said = lp.load(run).classify([real / row["file"] for row in rows])
    right = np.mean([a == row["true"] for a, row in zip(said, rows, strict=True)])
    assert right == pytest.approx(found["accuracy"])


@pytest.mark.slow
def test_an_exported_run_from_weights_says_what_classify_says(run: Path, real: Path, tmp_path: Path) -> None:
    """Decoding, resizing and cropping are the caller's; the rest is inside."""
    onnxruntime = pytest.importorskip("onnxruntime")
    command("export", run, "--preprocessing", "--out", tmp_path / "m.onnx")
    classifier, files = lp.load(run), sorted(real.rglob("*.*g"))
    pixels = np.stack([classifier.preprocessing.pixels(file) for file in files])
    assert (pixels.dtype, pixels.shape[1:]) == (np.uint8, (3, 224, 224))
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    probabilities = session.run(["probabilities"], {"input": pixels})[0]
    torch.testing.assert_close(torch.from_numpy(probabilities), classifier.predict(files), atol=1e-4, rtol=1e-3)
    assert [classifier.class_names[i] for i in probabilities.argmax(1)] == classifier.classify(files)


@pytest.fixture
def hub(timm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A network in the hub's cache, as it lies there after a download, and no net."""
    constants = pytest.importorskip("huggingface_hub").constants
    torch.manual_seed(5)
    network = timm.create_model("resnet10t", num_classes=7)
    place = tmp_path / "hub" / "models--me--mine"
    asks = {"mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1], "crop_pct": 0.8, "interpolation": "bicubic"}
    network.pretrained_cfg = {**network.pretrained_cfg, **asks, "input_size": [3, 64, 64]}
    timm.models.save_for_hf(network, str(place / "snapshots" / ("a" * 40)), safe_serialization=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return network


def test_weights_of_the_hub_by_the_command(
    hub: Any, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(
        "train", "--data", f"folder:{photos}", "--model", "hf-hub:me/mine", "--weights", "pretrained", "--tune",
        "head", "--budget", "2 steps", "--threads", "1", "--out", tmp_path / "run",
    )  # fmt: skip
    count = len(hub.state_dict())
    assert (
        f"weights of hf-hub:me/mine: {count - 2} tensors loaded; new: fc.weight, fc.bias"
        in capsys.readouterr().err
    )
    classifier = lp.load(tmp_path / "run")
    for (name, theirs), ours in zip(hub.state_dict().items(), classifier.model.state_dict().values(), strict=True):
        assert name.startswith("fc.") or torch.equal(theirs, ours), name
    prepared = classifier.preprocessing
    assert prepared.mean == pytest.approx((0.1, 0.2, 0.3))
    assert (prepared.shape, prepared.decoding.crop, prepared.decoding.interpolation) == (
        (3, 64, 64),
        0.8,
        "bicubic",
    )
    assert classifier.classify([photos / "kind0" / "0.png"])[0] in ("kind0", "kind1", "kind2")


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ((), None),
        (("--tune", "last:1"), None),
        (("--tune", "head"), 0.8),
        (("--center-crop", "0.8"), 0.8),
        (("--tune", "head", "--center-crop", "1"), None),
    ],
)
def test_a_network_that_trains_sees_all_of_a_picture(
    hub: Any, tmp_path: Path, photos: Path, options: tuple[str, ...], share: float | None
) -> None:
    """The middle, which weights were judged on, suits their features; predictions do as training did."""
    line = ("--model", "hf-hub:me/mine", "--weights", "pretrained", "--budget", "2 steps", "--threads", "1")
    command("train", "--data", f"folder:{photos}", *line, *options, "--out", tmp_path / "run")
    classifier = lp.load(tmp_path / "run")
    assert classifier.preprocessing.decoding.crop == share
    short = round(64 / (share or 1.0))
    image = Image.open(photos / "kind0" / "0.png").convert("RGB").resize((90, 90))
    image.save(tmp_path / "square.png")
    edge = (short - 64) // 2
    middle = image.resize((short, short), Image.Resampling.BICUBIC).crop((edge, edge, edge + 64, edge + 64))
    pixels = torch.from_numpy(np.array(middle)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)))
    seen = classifier.preprocessing([str(tmp_path / "square.png")])[0]
    torch.testing.assert_close(seen, (pixels - mean) / std, atol=1e-5, rtol=0)


def test_methods_of_a_comparison_see_what_each_trains_on(hub: Any, tmp_path: Path, photos: Path) -> None:
    lp.compare({"probe": "tune:head", "ft": "tune:all"}, data=f"folder:{photos}", model="hf-hub:me/mine", seeds=1,
               budget="2 steps", out=tmp_path / "both", settings={"weights": "pretrained"}, jobs=1)  # fmt: skip
    crops = {
        folder.name.partition("-")[0]: lp.load(folder).preprocessing.decoding.crop
        for folder in (tmp_path / "both" / "runs").iterdir()
    }
    assert crops == {"probe": 0.8, "ft": None}


def test_a_run_that_goes_on_sees_what_it_saw(hub: Any, tmp_path: Path, photos: Path) -> None:
    """Weights of a run of ours keep its share, whatever trains."""
    line = ("--model", "hf-hub:me/mine", "--budget", "2 steps", "--threads", "1", "--data", f"folder:{photos}")
    command("train", *line, "--weights", "pretrained", "--center-crop", "0.9", "--out", tmp_path / "first")
    command("train", *line, "--weights", tmp_path / "first", "--out", tmp_path / "second")
    assert lp.load(tmp_path / "second").preprocessing.decoding.crop == 0.9


def test_a_head_of_the_hub_for_as_many_classes_is_kept(hub: Any) -> None:
    network, match = origin_of("hf-hub:me/mine", "pretrained").network(shape=(3, 64, 64), num_classes=7, seed=0)
    assert match.fresh == ()
    assert torch.equal(network.fc.weight, hub.fc.weight)
    drawn = build_timm("hf-hub:me/mine", in_channels=1, num_classes=7, image_size=(64, 64))
    assert not torch.equal(drawn.fc.weight, hub.fc.weight), "an architecture alone"


def test_what_the_hub_does_not_have_is_told(hub: Any) -> None:
    words = (
        "weights of hf-hub:me/other cannot be fetched .* bring model.safetensors from https://huggingface.co/me"
    )
    with pytest.raises(ConfigError, match=words):
        origin_of("hf-hub:me/other", "pretrained")
    with pytest.raises(ConfigError, match=r"which architecture it is, and that cannot be fetched .* timm:NAME"):
        build_timm("hf-hub:me/other", in_channels=3, num_classes=7, image_size=(64, 64))
