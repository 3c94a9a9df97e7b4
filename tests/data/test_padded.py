"""Images in a black frame: pixel by pixel, in training, in predictions and in what else reads a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lessonplan as lp
from lessonplan.cli import main
from lessonplan.data.arrays import TensorSource
from lessonplan.data.padded import Padded
from lessonplan.data.preprocess import Preprocessing
from lessonplan.errors import ConfigError, DataError
from lessonplan.lab.evaluation import Evaluation, evaluate, run_subject
from lessonplan.models import build_model, count_parameters


def frame(image, size):
    """By hand: zeros, and the image written into their middle."""
    out = np.zeros((*image.shape[:-2], *size), dtype=np.uint8)
    top, left = (size[0] - image.shape[-2]) // 2, (size[1] - image.shape[-1]) // 2
    out[..., top : top + image.shape[-2], left : left + image.shape[-1]] = image
    return out


def pictures(count=30, side=10, channels=3):
    g = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, side, side), generator=g).to(torch.uint8), torch.arange(
        count
    ) % 3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5))
def test_images_stand_in_the_middle(height, width, more, wider):
    x = torch.randint(1, 256, (4, 2, height, width)).to(torch.uint8)
    size = (height + more, width + wider)
    boxes = torch.tensor([[0.0, 0.0, width, height]]).repeat(4, 1)
    source = Padded(TensorSource(x, torch.tensor([0, 1, 0, 1]), ("a", "b"), boxes), size, 10**6)
    assert np.array_equal(source.read(torch.arange(4)).numpy(), frame(x.numpy(), size))
    left, top, right, bottom = (int(edge) for edge in source.boxes[2])
    assert torch.equal(source.read(torch.tensor([2]))[0, :, top:bottom, left:right], x[2])


@pytest.mark.parametrize("memory_limit", [2**30, 9001])
def test_in_memory_and_as_it_is_read(memory_limit):
    x, y = pictures()
    small = lp.data.load((x, y), augment="none", workers=0)
    data = lp.data.load((x, y), pad=(13, 16), augment="none", memory_limit=memory_limit, workers=0)
    assert data.shape == (3, 13, 16)
    assert data.description["in_memory"] == (memory_limit > 9001)
    rows = torch.arange(len(data.train))
    assert torch.equal(data.train.rows, small.train.rows), "other samples were drawn"
    assert np.array_equal(data.train.raw(rows).numpy(), frame(small.train.raw(rows).numpy(), (13, 16)))
    seen = data.train.raw(rows).double() / 255
    torch.testing.assert_close(data.mean, seen.mean((0, 2, 3)).float())
    assert (data.description["padded_from"], "padded_from" in small.description) == ([10, 10], False)
    assert "image" not in small.preprocessing.to_dict()


def test_first_the_size_and_then_the_frame():
    x, y = pictures()
    sized = lp.data.load((x, y), image_size=12, augment="none")
    data = lp.data.load((x, y), test=(x[:6].flip(1), y[:6]), image_size=12, pad=16, augment="none")
    row = torch.arange(1)
    assert np.array_equal(
        data.train.raw(row),
        frame(sized.train.raw(sized.train.rows.eq(data.train.rows[0]).nonzero()[:, 0]).numpy(), (16, 16)),
    )
    assert data.test.fetch(row)[0].shape == (1, 3, 16, 16)


def test_a_frame_of_the_images_size_changes_nothing():
    data, same = lp.data.load("digits", per_class=5), lp.data.load("digits", per_class=5, pad=8)
    assert (same.fingerprint, same.preprocessing.to_dict()) == (data.fingerprint, data.preprocessing.to_dict())
    assert same.fingerprint != lp.data.load("digits", per_class=5, pad=9).fingerprint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on digits of 8 x 8 in a frame of 12 x 11."""
    out = tmp_path_factory.mktemp("padded") / "run"
    data = lp.data.load("digits", per_class=5, pad=(12, 11), augment="none")
    return out, data, lp.fit("tiny", data, None, "2 steps", batch_size=8, threads=1, out=out)


def test_a_run_predicts_in_its_frame(trained, tmp_path):
    out, data, run = trained
    rows = torch.arange(4)
    raw = lp.data.load("digits", per_class=5).test.raw(rows)
    with torch.no_grad():
        expected = run.model(data.test.fetch(rows)[0].to(next(run.model.parameters()).device)).softmax(1).cpu()
    classifier = lp.load(out)
    assert classifier.preprocessing == data.preprocessing
    close = {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(classifier.predict([image[0].numpy() for image in raw]).cpu(), expected, **close)
    torch.testing.assert_close(classifier.predict(data.test.raw(rows)).cpu(), expected, **close)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, raw, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    torch.testing.assert_close(classifier.predict(paths).cpu(), expected, **close)


def test_an_evaluation_reads_a_padded_runs_data_again(trained, tmp_path):
    out, data, _ = trained
    x, y = pictures(channels=1, side=8)
    np.savez(tmp_path / "other.npz", x=x.numpy(), y=y.numpy())
    subject = run_subject(out)
    assert subject.data.fingerprint == data.fingerprint
    found = evaluate(subject, Evaluation(ood=(f"npz:{tmp_path / 'other.npz'}",), limit=20), out=tmp_path / "out")
    assert found


def test_weights_of_a_padded_run_want_its_frame(trained):
    out, data, _ = trained
    needs = lp.train.origin.origin_of("tiny", str(out)).needs
    assert (needs.size, needs.pad) == ((8, 8), (12, 11))
    again = lp.data.load("digits", per_class=5, input=needs, augment="none")
    assert again.fingerprint == data.fingerprint
    torch.testing.assert_close(again.mean, data.mean)


@pytest.mark.parametrize("image", [[8], [8, 13], [0, 8], "8", [8, 8, 8]])
def test_a_stored_frame_is_checked(trained, image):
    stored = trained[1].preprocessing.to_dict()
    assert stored["image"] == [8, 8]
    assert Preprocessing.from_dict(stored) == trained[1].preprocessing
    with pytest.raises(DataError, match="stored preprocessing"):
        Preprocessing.from_dict({**stored, "image": image})


def test_what_cannot_be_padded():
    with pytest.raises(ConfigError, match="samples of 4 features have no frame of 8 x 8 pixels"):
        lp.data.load("table:iris", pad=8)
    with pytest.raises(ConfigError, match=r"8 x 8 pixels do not fit into a frame of 7 x 9: give a larger pad"):
        lp.data.load("digits", pad=(7, 9))
    with pytest.raises(ConfigError, match="pad=0"):
        lp.data.load("digits", pad=0)


def test_recordings_cannot_be_padded(tmp_path):
    import wave

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for i in range(3):
            with wave.open(str(tmp_path / name / f"{i}.wav"), "wb") as file:
                file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
                file.writeframes((np.random.default_rng(i).normal(size=4000) * 3000).astype("<i2").tobytes())
    with pytest.raises(ConfigError, match="recordings have no frame of 64 x 64"):
        lp.data.load(f"wav:{tmp_path}", pad=64)


@pytest.mark.parametrize(
    ("name", "padded", "plain"), [("lenet", 61_706, 44_426), ("fcnet-3000", 3_105_010, 2_385_010)]
)
def test_networks_have_the_parameters_that_the_thesis_padding_gives(name: str, padded: int, plain: int) -> None:
    """LeNet's first full layer sees 5 x 5 pixels of 16 maps instead of 4 x 4, FCNet3000 1,024 pixels for 784."""
    x, y = pictures(20, 28, 1)
    counts = []
    for pad in (32, None):
        data = lp.data.load((x, y), pad=pad, augment="none")
        with torch.device("meta"):
            counts.append(count_parameters(build_model(name, shape=data.shape, num_classes=10, seed=0)))
    assert counts == [padded, plain]


def test_the_command_line_pads_and_predicts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pictures(1, 8, 1)[0][0, 0].numpy()).save("a.png")
    train = "train --data digits --per-class 5 --pad 12 --model fcnet-4 --threads 1 --batch-size 8 --out run"
    for command in ([*train.split(), "--budget", "2 steps"], ["predict", "run", "a.png"]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    assert "a.png" in Path("predictions.csv").read_text()
    assert lp.load("run").preprocessing.image == (8, 8)
