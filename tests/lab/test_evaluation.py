"""An evaluation's numbers beside ones worked out another way, what is kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import nn

from lessonplan.commands.evaluate import Evaluate
from lessonplan.data import load
from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluation import PARTS
from lessonplan.lab.comparison import compare
from lessonplan.lab.evaluation import (
    Evaluation,
    TestTime,
    evaluate,
    model_subject,
    run_subject,
    subject_of,
)
from lessonplan.lab.evaluation.parts import classification, label_noise, ood
from lessonplan.measures import check_measure, is_share
from lessonplan.models import build_model
from lessonplan.report.sections.section import sections
from lessonplan.train import fit

DATA = {"per_class": 20, "val_fraction": 0.2, "augment": "none", "label_noise": 0.2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on digits with a fifth of the labels corrupted."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    fit("fcnet-64", load("digits", seed=3, **DATA), "none", "30ep", seed=3, out=folder, threads=1)
    return folder


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, which takes longer than such evaluations; its tests are elsewhere."""
    monkeypatch.setattr("lessonplan.report.write_evaluation", lambda folder: None)


def network_and_data(run: Path):
    """The run's network as its own class, and its data, without any of the code under test."""
    data = load("digits", seed=3, **DATA)
    network = nn.Sequential(nn.Flatten(), *(m for m in fcnet(run)))
    return network, data


def fcnet(run: Path) -> list[nn.Module]:
    state = safetensors.torch.load_file(run / "weights.safetensors")
    weights = [v for k, v in state.items() if k.endswith("weight")]
    biases = [v for k, v in state.items() if k.endswith("bias")]
    first, last = nn.Linear(64, 64), nn.Linear(64, 10)
    by_rows = {len(w): w for w in weights}, {len(b): b for b in biases}
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.copy_(by_rows[0][layer.out_features])
            layer.bias.copy_(by_rows[1][layer.out_features])
    return [first, nn.ReLU(), last]


def test_classification_is_the_runs_own_and_label_noise_by_hand(run, tmp_path) -> None:
    found = evaluate(run_subject(run), out=tmp_path)
    result = json.loads((run / "result.json").read_text())
    assert found["parts"]["classification"]["accuracy"] == result["test"]["accuracy"]
    assert found["parts"]["classification"]["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert sum(found["parts"]["classification"]["reliability"]["count"]) == len(
        load("digits", seed=3, **DATA).test
    )
    network, data = network_and_data(run)
    x, taught = data.train.fetch(torch.arange(len(data.train)))
    wrong = network(x).argmax(1) != taught
    measures = found["measures"]
    assert measures["train_error_corrupted"] == pytest.approx(wrong[data.train.corrupted].double().mean().item())
    assert measures["train_error_real"] == pytest.approx(wrong[~data.train.corrupted].double().mean().item())
    history = [json.loads(line)["val"]["accuracy"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert measures["val_error_best"] == pytest.approx(1 - max(history))
    assert measures["val_error_last"] == pytest.approx(1 - history[-1])
    assert min(history) < history[-1]


def test_fgsm_in_pixels_by_hand(run, tmp_path) -> None:
    """The step is eps in [0, 1] pixels whatever the normalisation, and pixels stay in their range."""
    options = Evaluation(attacks=("fgsm",), eps=0.06, limit=200, curve_limit=50)
    found = evaluate(run_subject(run), options, out=tmp_path)["parts"]["attacks"]
    network, data = network_and_data(run)
    rows = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))[:200]
    pixels, y = data.test.raw(rows).float() / 255, data.test.labels[rows]

    def logits(images):
        return network((images - data.mean.view(-1, 1, 1)) / data.std.view(-1, 1, 1))

    leaf = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits(leaf), y), leaf)
    attacked = (pixels + 0.06 * gradient.sign()).clamp(0, 1)
    right = (logits(attacked).argmax(1) == y).double().mean().item()
    by_name = {(row["attack"], row["loss"]): row for row in found["rows"]}
    assert by_name["fgsm", "cross-entropy"]["accuracy"] == pytest.approx(right, abs=0.006)
    assert by_name["none", None]["accuracy"] == pytest.approx(
        (logits(pixels).argmax(1) == y).double().mean().item()
    )
    assert ("fgsm", "margin") in by_name
    assert found["measures"]["fgsm_accuracy"] < found["measures"]["clean_accuracy"]
    eps = [point[0] for point in found["curve"]["points"]]
    assert eps == pytest.approx([0, 0.0075, 0.015, 0.03, 0.06, 0.12])


def test_defences_have_both_columns_and_their_smaller(run, tmp_path) -> None:
    options = Evaluation(
        ttsa=TestTime(k=2, copies=4), mixup_inference=True, attacks=("fgsm", "bim:steps=2"), eps=0.05,
        limit=30, curve_limit=10, adaptive_limit=10, pool=60,
    )  # fmt: skip
    found = evaluate(run_subject(run), options, out=tmp_path)
    defences = found["parts"]["attacks"]["defences"]
    assert (defences["samples"], defences["draws"]) == (10, 20)
    for rows in defences["tables"].values():
        assert [row["attack"] for row in rows] == ["none", "fgsm", "bim"]
        assert all(row["robust"] == min(row["transfer"], row["adaptive"]) for row in rows)
    measures = found["measures"]
    assert measures["bim_robust_accuracy"] == defences["tables"]["ttsa"][2]["robust"]
    assert measures["mi_other_bim_robust_accuracy"] == defences["tables"]["mi_other"][2]["robust"]
    curves = found["parts"]["test_time"]["by_copies"]
    assert set(curves) == {"ttsa", "mi_predicted", "mi_other"}
    assert [point[0] for point in curves["ttsa"]] == [1, 2, 4]
    assert measures["ttsa_accuracy"] == curves["ttsa"][-1][1]


def test_a_sample_that_counts_for_all_is_the_plain_prediction(run, tmp_path) -> None:
    """With lambda at a million partners vanish: the plain accuracy, in pixel units all along."""
    options = Evaluation(ttsa=TestTime(k=3, copies=2, weight=1e6), limit=100, curve_limit=10)
    measures = evaluate(run_subject(run), options, out=tmp_path)["measures"]
    assert measures["ttsa_accuracy"] == measures["clean_accuracy"]


def test_the_plain_prediction_beside_the_curve_of_lambda_is_of_its_samples(run, tmp_path) -> None:
    few, all_ = (
        evaluate(
            run_subject(run),
            Evaluation(ttsa=TestTime(k=2, copies=1), limit=n, curve_limit=12),
            out=tmp_path / str(n),
        )
        for n in (12, 100)
    )
    assert few["measures"]["clean_accuracy"] != all_["measures"]["clean_accuracy"]
    assert all_["parts"]["test_time"]["weight_clean_accuracy"] == few["measures"]["clean_accuracy"]


def test_other_data_by_hand(run, tmp_path) -> None:
    """Confidence on a folder of black images, beside the network's own answer for one."""
    folder = tmp_path / "black"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        Image.new("RGB", (20, 12)).save(folder / name)
    options = Evaluation(ood=("noise", str(folder)), limit=50)
    found = evaluate(run_subject(run), options, out=tmp_path / "out")["parts"]["ood"]
    assert set(found["report"]) == {"uniform", "gaussian", "black", "mean"}
    assert found["samples"] == {"in": 50, "uniform": 50, "gaussian": 50, "black": 2}
    network, data = network_and_data(run)
    black = (
        network(-data.mean.view(1, 1, 1, 1).expand(1, 1, 8, 8) / data.std.view(1, 1, 1, 1)).softmax(1).max().item()
    )
    assert found["confidence"]["black"][int(20 * black)] == 1.0
    means = [found["report"][name]["auroc"] for name in ("uniform", "gaussian", "black")]
    assert found["measures"]["ood_auroc"] == pytest.approx(sum(means) / 3)


def test_folders_without_images_are_found_before_the_work(run, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    for name, said in ((tmp_path / "empty", "holds no images"), (tmp_path / "gone", "does not exist")):
        options = Evaluation(attacks=("fgsm",), ood=("noise", str(name)))
        with pytest.raises(DataError, match=said):
            evaluate(run_subject(run), options, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_of_any_kind_take_the_networks_shape(run, tmp_path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, 30, 40, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", x=x, y=np.arange(6) % 2)
    found = evaluate(run_subject(run), Evaluation(ood=(f"npz:{tmp_path / 'photos.npz'}",)), out=tmp_path / "out")
    assert found["parts"]["ood"]["samples"]["photos.npz"] == 6


def test_the_table_of_parts_says_what_they_give(run, tmp_path) -> None:
    """Every part is done and shown; its measures are the declared ones, those in [0, 1] the shares."""
    few = {"limit": 12, "curve_limit": 4, "adaptive_limit": 3}
    sums = {"ttsa": "k=2,copies=2", "mixup_inference": True}
    more = {
        "attacks": "fgsm,bim:steps=1,mim:steps=1,pgd:steps=1",
        "ood": "noise",
        "localise": True,
        "between": True,
    }
    data = load("digits", seed=3, **DATA)
    network = build_model("tiny", shape=data.shape, num_classes=data.num_classes, seed=0)
    subject = subject_of(network, data, data.preprocessing, name="convolutions")
    found = evaluate(subject, Evaluation.make(**few, **sums, **more), out=tmp_path)
    assert list(found["parts"]) == [part.name for part in PARTS] == list(sections(found))
    for part in PARTS:
        measures = found["parts"][part.name]["measures"]
        assert measures.keys() <= {*part.shares, *part.numbers}
        assert all(0 <= value <= 1 and is_share(name) for name, value in measures.items() if name in part.shares)
        assert not any(is_share(name) for name in part.numbers)
        assert part.uses(Evaluation()) <= set(Evaluation.model_fields)
    assert "mi_other_pgd_robust_accuracy" in found["measures"]
    for name in found["measures"]:
        assert check_measure(name) == name


def test_only_what_is_missing_is_done(run, tmp_path, monkeypatch) -> None:
    first = evaluate(run_subject(run), Evaluation(ood=("noise",), limit=20), out=tmp_path)

    def fails(work):
        raise AssertionError("done before")

    for part in (classification, label_noise, ood):
        monkeypatch.setattr(part, "run", fails)
    again = evaluate(run_subject(run), Evaluation(ood=("noise",), limit=20, between=True), out=tmp_path)
    assert again["parts"]["ood"] == first["parts"]["ood"]
    assert again["measures"].items() >= first["measures"].items()
    assert "between_miss" in again["measures"]
    with pytest.raises(AssertionError, match="done before"):  # other samples
        evaluate(run_subject(run), Evaluation(ood=("noise",), limit=21), out=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("lessonplan.report.write_evaluation", lambda folder: None)
    assert set(json.loads((tmp_path / "evaluation.json").read_text())["parts"]) == {
        "classification",
        "label_noise",
    }


def test_other_weights_are_another_network(run, tmp_path) -> None:
    first = evaluate(run_subject(run), out=tmp_path)
    subject = run_subject(run)
    with torch.no_grad():
        next(subject.model.parameters()).zero_()
    again = evaluate(subject, out=tmp_path)
    assert again["parts"]["classification"]["accuracy"] < first["parts"]["classification"]["accuracy"]


class Looks(nn.Module):
    """Two outputs from the mean of a bright place and of a dark one: the map of class 0 is the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.keep = nn.Conv2d(1, 2, 1, bias=False)
        self.last = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.keep.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.last.weight.copy_(torch.eye(2))

    def forward(self, x):
        return self.last(self.keep(x).mean((2, 3)))


class Boxed:
    """Sixty images of a bright rectangle, wider than tall, each with its box (left, top, right, bottom)."""

    shape, in_memory, fingerprint, class_names = (1, 16, 16), True, "boxed", ("bright", "other")

    def __init__(self) -> None:
        self.labels = torch.zeros(60, dtype=torch.int64)
        self.labels[:2] = 1
        places = [(1 + i % 5, 2 + i % 9) for i in range(60)]
        self.boxes = torch.tensor([[left, top, left + 10, top + 4] for left, top in places]).float()
        self.pixels = torch.zeros(60, 1, 16, 16, dtype=torch.uint8)
        for image, (left, top) in zip(self.pixels, places, strict=True):
            image[0, top : top + 4, left : left + 10] = 255

    def __len__(self) -> int:
        return 60

    def read(self, rows):
        return self.pixels[rows]


def test_boxes_are_found_where_they_are(tmp_path) -> None:
    data = load(Boxed(), test_fraction=0.5)
    subject = subject_of(Looks(), data, data.preprocessing, name="looks")
    found = evaluate(subject, Evaluation(localise=True, limit=40, curve_limit=40), out=tmp_path)
    part = found["parts"]["localisation"]
    assert (part["method"], part["boxes"]) == ("cam", "the true boxes of the data")
    bright = (data.test.labels == 0).double().mean().item()
    assert found["measures"]["localisation_known_accuracy"] == pytest.approx(bright)
    assert part["whole_image"] == 0.0
    assert len(list((tmp_path / "pictures" / "localisation").glob("*.png"))) == 1


def test_any_of_several_boxes_will_do_and_images_without_one_are_left_out(tmp_path) -> None:
    source = Boxed()
    far = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(60, 1, 4)
    source.boxes = torch.cat([far, source.boxes[:, None]], 1)
    source.boxes[::3] = torch.nan
    data = load(source, test_fraction=0.5)
    subject = subject_of(Looks(), data, data.preprocessing, name="looks")
    found = evaluate(subject, Evaluation(localise=True, limit=40, curve_limit=40), out=tmp_path)
    known = ~data.test.boxes[:, 0, 0].isnan()
    assert found["parts"]["localisation"]["samples"] == int(known.sum())
    bright = (data.test.labels[known] == 0).double().mean().item()
    assert found["measures"]["localisation_known_accuracy"] == pytest.approx(bright)


def test_where_only_true_boxes_will_do_canvases_are_refused(run, tmp_path) -> None:
    with pytest.raises(ConfigError, match="true_boxes says what localise is judged by"):
        Evaluation.make(true_boxes=True)
    options = Evaluation(localise=True, true_boxes=True)
    with pytest.raises(DataError, match="true_boxes: the train part has no boxes"):
        evaluate(run_subject(run), options, out=tmp_path / "out")
    with pytest.raises(DataError, match="true_boxes: the train part has no boxes"):  # before anything is trained
        compare("erm", "digits", model="tiny", budget="100 steps", seeds=1, out=tmp_path / "c", evaluation=options)
    assert not list((tmp_path / "c").glob("runs/*/metrics.jsonl"))
    data = load(Boxed(), test_fraction=0.5)
    subject = subject_of(Looks(), data, data.preprocessing, name="looks")
    options = Evaluation(localise=True, true_boxes=True, curve_limit=40)
    assert evaluate(subject, options, out=tmp_path)["parts"]["localisation"]["samples"] == 30


def test_canvases_stand_in_for_boxes(run, tmp_path) -> None:
    data = load("digits", per_class=10)
    torch.manual_seed(0)
    subject = subject_of(Looks(), data, data.preprocessing, name="looks")
    subject.model.model.last = nn.Linear(2, 10)
    part = evaluate(subject, Evaluation(localise=True, curve_limit=10), out=tmp_path)["parts"]["localisation"]
    assert "twice their side" in part["boxes"]
    with pytest.raises(ConfigError, match="feature maps"):
        evaluate(run_subject(run), Evaluation(localise=True), out=tmp_path / "other")


def test_features_are_judged_but_not_attacked(tmp_path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.normal(size=(120, 5)).astype(np.float32) + 4 * y[:, None]
    data = load((x, y), test_fraction=0.25)
    subject = subject_of(nn.Linear(5, 3), data, data.preprocessing, name="table")
    found = evaluate(subject, Evaluation(ttsa=TestTime(k=2, copies=2), limit=30, curve_limit=10), out=tmp_path)
    rows, y = data.test.fetch(torch.arange(len(data.test)))
    right = (subject.model.model(rows).argmax(1) == y).double().mean().item()
    assert found["parts"]["classification"]["accuracy"] == pytest.approx(right)
    for asked in ({"attacks": ("fgsm",)}, {"localise": True}, {"ood": ("noise",)}):
        with pytest.raises(ConfigError, match="samples are features"):
            evaluate(subject, Evaluation(**asked), out=tmp_path)


# -- a user's own network ----------------------------------------------------------------------------


FACTORY = """
import torch
def linear(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
def sure(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.Softmax(1))
def few(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the one the user is in, with a module of networks and weights for the first."""
    (tmp_path / "my_networks_of_this_test.py").write_text(FACTORY)
    g = torch.Generator().manual_seed(0)
    weights = {"1.weight": torch.randn(10, 64, generator=g), "1.bias": torch.zeros(10)}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(line: str) -> int:
    """The exit code of the command, read as the command line reads it."""
    answer = tyro.cli(Evaluate, args=line.split()).run()
    answer.show()
    return int(answer.code)


def test_a_network_of_ones_own(own, capsys) -> None:
    line = (
        "--model my_networks_of_this_test:linear --weights w.safetensors --data digits --mean 0 --std 1 --out out"
    )
    assert command(line) == 0
    assert "page: out/index.html" in capsys.readouterr().out
    data = load("digits", val_fraction=0.2)
    weight = safetensors.torch.load_file("w.safetensors")["1.weight"]
    x = data.test.raw(torch.arange(len(data.test))).float().flatten(1) / 255
    right = ((x @ weight.T).argmax(1) == data.test.labels).double().mean().item()
    found = json.loads(Path("out/evaluation.json").read_text())
    assert found["parts"]["classification"]["accuracy"] == pytest.approx(right)
    before = torch.get_rng_state()
    by_file = model_subject("my_networks_of_this_test.py:linear", own / "w.safetensors", "digits")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(by_file.model.model[1].weight, weight)
    assert "training part" in by_file.note


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--model my_networks_of_this_test:sure --data digits --out o", "returns probabilities"),
        ("--model my_networks_of_this_test:few --data digits --out o", "the model has 3 outputs"),
        (
            "--model my_networks_of_this_test:none --data digits --out o",
            "unknown name in my_networks",
        ),
        ("--model my_networks_of_this_test:number --data digits --out o", "not a torch.nn.Module"),
        ("--model nowhere_at_all:linear --data digits --out o", "is not to be found"),
        ("--model gone.py:linear --data digits --out o", "does not exist"),
        ("--model my_networks_of_this_test:linear --weights gone.st --data digits --out o", "no such file"),
        (
            "--model my_networks_of_this_test:linear --weights my_networks_of_this_test.py --data digits --out o",
            "no safe",
        ),
        ("--model my_networks_of_this_test:few --weights w.safetensors --data digits --out o", "do not fit"),
        ("--model my_networks_of_this_test:linear --data digits --out o --mean 1,2", "give one, or one each"),
        ("--model my_networks_of_this_test:linear --data digits --out o --mean x", "give a number"),
        ("--model my_networks_of_this_test:linear --out o", "--data WHAT"),
        ("--data digits --out o", "--model module:factory"),
        ("--model fcnet-8 --data digits", "--out is missing"),
        ("--model fcnet-8 --data digits --out o --attacks fgsm --eps 8", "did you mean 8/255"),
        ("--model fcnet-8 --data digits --out o --on val --per-class 10 --val-fraction 0.0", "no such part"),
        (
            "--model fcnet-8 --data digits --out o --per-class 3 --val-per-class 1 --ttsa k=40",
            "a pool of at least 40",
        ),
        ("nothing_here --out o", "no folder of a run"),
    ],
)
def test_what_is_wrong_is_said(own, line, said) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        command(line)


# -- runs --------------------------------------------------------------------------------------------


def test_the_line_of_a_run(run, tmp_path, capsys) -> None:
    shutil.copytree(run, tmp_path / "run")
    Image.new("L", (9, 9)).save(tmp_path / "run" / "one.png")
    line = (
        f"{tmp_path / 'run'} --on test --ttsa k=4,copies=2 --attacks fgsm,bim:steps=2,mim:steps=2,pgd:steps=2"
        f" --eps 8/255 --ood noise,{tmp_path / 'run'} --between --limit 12 --adaptive-limit 3 --threads 1"
    )
    assert command(line) == 0
    said = capsys.readouterr().out
    assert f"page: {tmp_path / 'run' / 'evaluation' / 'index.html'}" in said
    for word in ("FGSM", "BIM", "MIM", "PGD", "margin", "Transfer %", "Adaptive %", "Robust %", "AUROC"):
        assert word in said
    stored = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert set(stored["parts"]) == set(stored["planned"])
    assert len(list((tmp_path / "run" / "evaluation" / "pictures" / "attacks").glob("*.png"))) == 1


def test_data_that_are_not_the_runs(run, tmp_path) -> None:
    rng, y = np.random.default_rng(0), np.arange(40)
    np.savez(tmp_path / "a.npz", x=rng.normal(size=(40, 5)).astype(np.float32), y=y % 10)
    np.savez(tmp_path / "b.npz", x=rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), y=y % 4)
    with pytest.raises(ConfigError, match=r"5 features are no images of \(8, 8\) pixels"):
        run_subject(run, data=f"npz:{tmp_path / 'a.npz'}")
    with pytest.raises(DataError, match="give data with the same classes"):
        run_subject(run, data=f"npz:{tmp_path / 'b.npz'}")
    with pytest.raises(DataError, match="not those that"):
        run_subject(run, per_class=19)
    with pytest.raises(ConfigError, match="for networks without a run"):
        command(f"{run} --mean 0.5")


def test_a_runs_normalisation_is_kept_on_other_data(run, tmp_path) -> None:
    """Darker digits have other statistics; the network must see them as darker."""
    digits = load("digits", seed=3, **DATA)
    x = (digits.test.raw(torch.arange(400)) // 2)[:, 0].numpy()
    y = digits.test.labels[:400].numpy()
    np.savez(tmp_path / "dark.npz", x=x[:200], y=y[:200], x_test=x[200:], y_test=y[200:])
    found = evaluate(run_subject(run, data=f"npz:{tmp_path / 'dark.npz'}"), out=tmp_path / "out")
    network, data = network_and_data(run)
    seen = (torch.from_numpy(x[200:])[:, None].float() / 255 - data.mean.view(-1, 1, 1)) / data.std.view(-1, 1, 1)
    right = (network(seen).argmax(1) == torch.from_numpy(y[200:])).double().mean().item()
    assert found["parts"]["classification"]["accuracy"] == pytest.approx(right)


@pytest.mark.filterwarnings("ignore:.*cannot be read:lessonplan.errors.LessonplanWarning")
def test_a_run_that_left_files_out_is_judged_without_them(tmp_path) -> None:
    for label in range(2):
        (tmp_path / "set" / str(label)).mkdir(parents=True)
        for number in range(8):
            pixels = np.full((8, 8, 3), 20 * number + 7 * label, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / str(label) / f"{number}.png")
    (tmp_path / "set" / "0" / "zz.png").write_bytes(b"no picture")
    data = load(f"folder:{tmp_path / 'set'}", on_bad="skip")
    fit("tiny", data, budget="2 steps", out=tmp_path / "run", threads=1)
    found = run_subject(tmp_path / "run")
    assert found.data.fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"cannot be read again: .*zz.png"):
        run_subject(tmp_path / "run", on_bad="error")


def test_a_network_of_other_sizes_is_told_before_the_work(tmp_path, monkeypatch) -> None:
    (tmp_path / "larger.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"larger.py:make cannot take inputs of shape \(1, 8, 8\): RuntimeError"):
        model_subject("larger.py:make", None, "digits")
