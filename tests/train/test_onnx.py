"""ONNX files: ONNX Runtime computes from them what the network computes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import lessonplan as lp
from lessonplan import cli
from lessonplan.data import Preprocessing
from lessonplan.data.pixels import Decoding
from lessonplan.errors import ConfigError, DataError
from lessonplan.models import build_model
from lessonplan.network.untouched import train_mode
from lessonplan.train import Classifier, onnx_file

NAMES = ("ä", "b", "c")
MEAN, STD = (0.2, 0.45, 0.7), (0.15, 0.3, 0.25)
SIZES = (1, 2, 7)


def classifier(model: nn.Module | str, shape: tuple[int, ...]) -> Classifier:
    """One whose batch norms have seen something, so that they do something."""
    width = shape[0] if len(shape) == 3 else len(MEAN)
    if isinstance(model, str):
        model = build_model(model, shape=shape, num_classes=3, seed=0)
        train_mode(model)
        torch.manual_seed(0)
        for _ in range(2):
            model(torch.randn(8, *shape) * 2 + 1)
    return Classifier(model, Preprocessing(shape, MEAN[:width], STD[:width]), NAMES)


def opened(path: Path) -> Callable[[Any], list[Tensor]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["logits", "probabilities"]
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {"input": np.asarray(x)})]


def told(path: Path) -> dict[str, Any]:
    [entry] = onnx.load(path).metadata_props
    assert entry.key == "lessonplan"
    return json.loads(entry.value)


@pytest.mark.parametrize(
    ("spec", "shape", "inside"),
    [
        pytest.param("tiny", (1, 8, 8), False, marks=pytest.mark.slow),
        ("tiny", (1, 8, 8), True),
        pytest.param("resnet-18", (3, 16, 12), True, marks=pytest.mark.slow),
        pytest.param("wrn-10-1:norm=group", (3, 8, 8), False, marks=pytest.mark.slow),
        pytest.param("timm:resnet10t", (3, 32, 32), True, marks=pytest.mark.slow),
    ],
)
def test_pixels_give_what_the_network_gives_for_them(
    spec: str, shape: tuple[int, ...], inside: bool, tmp_path: Path
) -> None:
    """Normalised by hand, in float64; batches of several sizes."""
    subject = classifier(spec, shape)
    subject.export(tmp_path / "m.onnx", preprocessing=inside)
    run = opened(tmp_path / "m.onnx")
    for n in SIZES:
        pixels = np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)
        mean, std = (np.array(v[: shape[0]])[:, None, None] for v in (MEAN, STD))
        normal = ((pixels / 255 - mean) / std).astype(np.float32)
        with torch.no_grad():
            expected = subject.model(torch.from_numpy(normal))
        logits, probabilities = run(pixels if inside else normal)
        scale = float(expected.abs().max())
        torch.testing.assert_close(logits, expected, atol=1e-4 * scale, rtol=0)
        torch.testing.assert_close(probabilities, expected.softmax(1), atol=1e-4 * max(scale, 1), rtol=0)


def test_features_are_normalised_too(tmp_path: Path) -> None:
    subject = classifier("fcnet-8", (3,))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert subject.export(tmp_path / "raw.onnx", preprocessing=True) == "float32 features (N, 3)"
    subject.export(tmp_path / "normal.onnx")
    probabilities = subject.predict(list(x))
    torch.testing.assert_close(opened(tmp_path / "raw.onnx")(x)[1], probabilities)
    normal = ((x - np.array(MEAN)) / np.array(STD)).astype(np.float32)
    torch.testing.assert_close(opened(tmp_path / "normal.onnx")(normal)[1], probabilities)


def test_what_a_run_predicts_for_files(quick: Any, data: Any, tmp_path: Path) -> None:
    quick(None, "30 steps", out=tmp_path / "run")
    subject = lp.load(tmp_path / "run")
    takes = subject.export(tmp_path / "new" / "m.onnx", preprocessing=True)
    assert takes == "uint8 pixels (N, 1, 8, 8), 0 to 255"
    pixels = data.test.raw(torch.arange(9)).numpy()
    for i, image in enumerate(pixels):
        Image.fromarray(image[0]).save(tmp_path / f"{i}.png")
    expected = subject.predict([tmp_path / f"{i}.png" for i in range(9)])
    assert len({tuple(row) for row in expected.tolist()}) == 9
    torch.testing.assert_close(opened(tmp_path / "new" / "m.onnx")(pixels)[1], expected, atol=1e-6, rtol=1e-5)


def test_what_the_file_tells(tmp_path: Path) -> None:
    subject = classifier("fcnet-8", (3, 2, 4))
    for inside, takes in (
        (True, "uint8 pixels (N, 3, 2, 4), 0 to 255"),
        (False, "float32 (N, 3, 2, 4), normalised"),
    ):
        assert subject.export(tmp_path / "m.onnx", preprocessing=inside, force=True) == takes
        found = told(tmp_path / "m.onnx")
        assert found["takes"] == takes
        assert found["preprocessing_inside"] is inside
        assert found["version"] == lp.__version__
        assert found["class_names"] == list(NAMES)
        assert (found["shape"], found["mean"], found["std"]) == ([3, 2, 4], list(MEAN), list(STD))
        assert Preprocessing.from_dict(found) == subject.preprocessing
    content = (tmp_path / "m.onnx").read_bytes()
    for place in (Path(lp.__file__).parents[2], Path(torch.__file__).parents[1], tmp_path):
        assert str(place).encode() not in content, "the file names this machine's folders"


@pytest.mark.parametrize(("opset", "spec"), [(16, "fcnet-8"), (18, "wrn-10-1:norm=group"), (21, "fcnet-8")])
def test_opsets(opset: int, spec: str, tmp_path: Path) -> None:
    subject, x = classifier(spec, (1, 8, 8)), torch.randn(4, 1, 8, 8)
    subject.export(tmp_path / "m.onnx", opset=opset)
    assert [i.version for i in onnx.load(tmp_path / "m.onnx").opset_import if not i.domain] == [opset]
    torch.testing.assert_close(opened(tmp_path / "m.onnx")(x)[1], subject.probabilities(x), atol=1e-5, rtol=1e-4)


def test_opsets_that_will_not_do(tmp_path: Path) -> None:
    subject = classifier("fcnet-8", (1, 8, 8))
    for opset, words in ((0, "has 1 to"), (99, "has 1 to"), (9, "opset 9: give 18 or a higher one")):
        with pytest.raises(ConfigError, match=words):
            subject.export(tmp_path / "m.onnx", opset=opset)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = classifier("fcnet-8", (1, 8, 8))
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(ConfigError, match="there already"):
        subject.export(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="is a folder: give a file"):
        subject.export(tmp_path, force=True)
    with pytest.raises(DataError, match="could not be written"):
        subject.export(tmp_path / "m.onnx" / "m.onnx")
    monkeypatch.setattr(onnx_file, "LARGEST", 500)
    with pytest.raises(ConfigError, match="GB of weights"):
        subject.export(tmp_path / "m.onnx", force=True)
    monkeypatch.undo()
    assert (tmp_path / "m.onnx").read_text() == "mine"
    subject.export(tmp_path / "m.onnx", force=True)
    assert told(tmp_path / "m.onnx")["shape"] == [1, 8, 8]
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


class Own(nn.Module):
    """A network that does one thing that cannot be exported as it is."""

    def __init__(self, does: str) -> None:
        super().__init__()
        self.does, self.out = does, nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Any:
        logits = self.out(x.flatten(1))
        if self.does == "operator":
            return logits + torch.special.bessel_j0(logits)
        if self.does == "branch":
            return logits if logits.sum() > 0 else -logits
        if self.does == "batch":
            return logits.reshape(2, 3) if len(x) == 2 else logits
        if self.does == "noise":
            return logits + torch.randn_like(logits)
        if self.does == "dictionary":
            return {"scores": logits}
        return {"logits": logits, "hidden": x}


def test_logits_among_other_outputs(tmp_path: Path) -> None:
    """As Hugging Face's networks give them."""
    subject = classifier(Own("more"), (1, 8, 8))
    subject.export(tmp_path / "m.onnx")
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        expected = subject.model(x)["logits"]
    torch.testing.assert_close(opened(tmp_path / "m.onnx")(x.numpy())[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("operator", r"ONNX has no operator for prims\.bessel_j0"),
        ("branch", "cannot be written as ONNX"),
        ("batch", "for any batch size"),
        ("noise", "other logits"),
        ("dictionary", "dict of scores"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(
    does: str, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        classifier(Own(does), (1, 8, 8)).export(tmp_path / "m.onnx")
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0


def test_the_network_stays_as_it_is(tmp_path: Path) -> None:
    subject = classifier("tiny", (1, 8, 8))
    subject.model.train()
    before = {name: t.clone() for name, t in subject.model.state_dict().items()}
    subject.export(tmp_path / "m.onnx")
    assert all(module.training for module in subject.model.modules())
    assert all(torch.equal(t, before[name]) for name, t in subject.model.state_dict().items())
    x = torch.randn(3, 1, 8, 8)
    subject.model.eval()
    torch.testing.assert_close(opened(tmp_path / "m.onnx")(x)[1], subject.probabilities(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package}.*pip install 'lessonplan\[onnx\]'"):
        classifier("fcnet-8", (1, 8, 8)).export(tmp_path / "m.onnx")


def test_the_command(
    quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(out=tmp_path / "run")
    monkeypatch.chdir(tmp_path)

    def export(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main(["export", "run", *options])
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    takes = "takes uint8 pixels (N, 1, 8, 8), 0 to 255; gives logits and probabilities of 3 classes"
    assert export("--preprocessing", "--opset", "19") == (0, f"model.onnx: {takes}\n", "")
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 19
    code, said, mistake = export()
    assert (code, said) == (2, "")
    assert "model.onnx is there already" in mistake
    assert export("--force", "--out", "model.onnx")[0] == 0
    assert told(tmp_path / "model.onnx")["preprocessing_inside"] is False


def test_the_page_about_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    classifier("fcnet-8", (1, 8, 8)).export(tmp_path / "model.onnx", preprocessing=True)
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    names: dict[str, Any] = {"pixels": pixels}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    expected = opened(tmp_path / "model.onnx")(pixels)[0].argmax(1).tolist()
    assert names["best"] == [NAMES[i] for i in expected]
    assert len(set(expected)) > 1


@pytest.mark.parametrize(
    ("shape", "decoding"),
    [
        ((3, 32, 32), Decoding(interpolation="bicubic", crop=0.875)),
        ((1, 24, 36), Decoding()),
        ((3, 9, 7), Decoding()),
    ],
)
def test_the_tutorials_program_sees_photographs_as_the_network_does(
    shape: tuple[int, ...], decoding: Decoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any shape, however they are stored: it has no lessonplan to ask."""
    width = shape[0]
    trained = Classifier(
        build_model("fcnet-8", shape=shape, num_classes=3, seed=0),
        Preprocessing(shape, MEAN[:width], STD[:width], decoding=decoding),
        NAMES,
    )
    trained.export(tmp_path / "mine.onnx", preprocessing=True)
    (tmp_path / "new-photos").mkdir()
    monkeypatch.chdir(tmp_path)
    picture = Image.effect_noise((90, 40), 120).convert("RGB")
    picture = Image.blend(picture, Image.radial_gradient("L").resize((90, 40)).convert("RGB"), 0.5)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.resize((1300, 420)).save("new-photos/large.jpg", exif=turned)
    picture.save("new-photos/dots-0.png")  # which the page asks about
    picture.resize((5, 300)).quantize(16).save("new-photos/palette.png")
    picture.convert("CMYK").save("new-photos/cmyk.jpg")
    picture.convert("L").resize((1, 1)).save("new-photos/dot.png")
    picture.resize((shape[2], shape[1])).save("new-photos/same.bmp")
    page = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
    names: dict[str, Any] = {}
    exec(page[page.index("import json\n\nimport numpy as np\nimport onnxruntime") :].partition("```")[0], names)
    for file in sorted(Path("new-photos").iterdir()):
        assert np.array_equal(names["prepared"](str(file)), trained.preprocessing.pixels(file)), file
        assert names["answer"](str(file))[0] == trained.classify([file])[0], file
