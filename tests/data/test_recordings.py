"""Recordings in folders and archives: layouts, parts, rates, bad files, archives that must be refused."""

import io
import json
import os
import struct
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import lessonplan as lp
from lessonplan.data import Preprocessing, Recording, load, store
from lessonplan.data.spectrogram import Spectrogram
from lessonplan.errors import ConfigError, DataError, LessonplanWarning

RNG = np.random.default_rng(0)
REAL = Path(os.environ.get("LESSONPLAN_DATA", "")) / "fsdd" / "recordings.zip"


def tone(hz=440.0, rate=8000, seconds=0.25) -> bytes:
    """A WAV file: a tone with a little noise, so that no two are alike."""
    t = np.arange(int(rate * seconds)) / rate
    x = 0.4 * np.sin(2 * np.pi * hz * t) + 0.01 * RNG.normal(size=len(t))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((x * 32767).astype("<i2").tobytes())
    return file.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def words(folder="", n=4, classes=("no", "yes"), rate=8000) -> dict[str, bytes]:
    return {f"{folder}{c}/{i}.wav": tone(300 + 900 * k, rate) for k, c in enumerate(classes) for i in range(n)}


def test_class_folders_and_archives_are_the_same(tmp_path):
    files = words(n=6)
    write(
        tmp_path / "set", files | {"no/._0.wav": b"x", ".cache/a.wav": b"x", "_background_noise_/hum.wav": tone()}
    )
    data = load(f"wav:{tmp_path / 'set'}", test_fraction=0.5, seed=1)
    assert data.class_names == ("no", "yes")
    assert data.shape == (1, 32, 32)
    assert (len(data.train), len(data.test)) == (6, 6)
    assert data.description["background_left_out"] == 1
    assert json.loads(json.dumps(data.description)) == data.description
    inside = packed(
        tmp_path / "set.zip", {f"deep/down/{n}": c for n, c in files.items()} | {"__MACOSX/no/0.wav": b"x"}
    )
    for spec in (f"wav:{inside}", inside, tmp_path / "set"):  # the kind is guessed, too
        assert load(spec, test_fraction=0.5, seed=1).fingerprint == data.fingerprint


def test_samples_are_the_spectrograms_of_the_files(tmp_path):
    files = words(n=3)
    data = load(write(tmp_path, files), test_fraction=0, image_size=(20, 25), clip_seconds=0.2, augment="none")
    assert data.shape == (1, 20, 25)
    s = Spectrogram(8000, 0.2, 20, 25)
    for place, content in enumerate(files.values()):
        samples = np.frombuffer(content[44:], dtype="<i2")[200:1800] / 32768  # the middle 0.2 of 0.25 s
        assert torch.equal(data.train.raw(torch.tensor([place])), s(torch.from_numpy(samples)[None]))
    x, _ = data.train.fetch(torch.arange(6))
    assert torch.allclose(x.mean(), torch.zeros(()), atol=1e-5)
    assert torch.allclose(x.std(correction=0), torch.ones(()), atol=1e-5)


def test_speech_commands(tmp_path):
    files = words(n=6, rate=16000) | {"_background_noise_/pink.wav": tone(rate=16000, seconds=2)}
    files["testing_list.txt"] = b"no/0.wav\nyes/1.wav\nyes/2.wav\n"
    files["validation_list.txt"] = b"no/3.wav\nyes/4.wav\nno/5.wav\nmissing/9.wav\n"
    (tmp_path / "archive").mkdir()
    inside = packed(
        tmp_path / "archive" / "commands.zip", {f"speech_commands_v0.02/{n}": c for n, c in files.items()}
    )
    write(tmp_path / "set", files)
    for spec in (f"wav:{tmp_path / 'set'}", f"wav:{inside}", tmp_path / "set"):
        data = load(spec, val_fraction=0.2, augment="none")
        assert (len(data.train), len(data.val), len(data.test)) == (6, 3, 3)
        assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert sorted(data.val.labels.tolist()) == [0, 0, 1]
        assert data.test.labels.tolist() == [0, 1, 1]
        assert data.description["listed_but_missing"] == 1
        assert data.preprocessing.audio.rate == 16000
    alone = load(write(tmp_path / "alone", {"yes/4.wav": files["yes/4.wav"], "no/3.wav": files["no/3.wav"]}),
                 test_fraction=0)  # fmt: skip
    held = [data.val.raw(torch.tensor([i])) for i in range(3)]
    for i in range(2):
        assert any(torch.equal(alone.train.raw(torch.tensor([i])), sample) for sample in held)


@pytest.mark.parametrize(
    ("options", "train", "val"),
    [
        ({}, 6, 4),
        ({"val_fraction": 0.0}, 6, 0),
        ({"val_fraction": 0.1}, 6, 4),
        ({"val_per_class": 1}, 6, 2),
        ({"per_class": 2, "val_fraction": 0.5}, 2, 2),
        ({"per_class": 2, "val_per_class": 2}, 4, 4),
        ({"per_class": 3}, 6, 4),
    ],
)
def test_a_validation_part_of_its_own_is_what_validation_is_drawn_from(tmp_path, options, train, val):
    files = words("train/", 3) | words("val/", 2) | words("test/", 1)
    files["train/no/copy.wav"] = files["val/no/0.wav"]  # known from validation: not trained on
    data = load(f"wav:{write(tmp_path, files)}", **options)
    assert data.description["parts"] == ["train", "val", "test"]
    assert (len(data.train), len(data.val or ()), len(data.test)) == (train, val, 2)
    assert data.description["duplicates"] == {"checked": True, "left_out": 1}
    own = load(f"wav:{tmp_path / 'val'}", test_fraction=0, augment="none").train
    known = {row.numpy().tobytes() for row in own.raw(torch.arange(4))}
    assert {row.numpy().tobytes() for row in data.train.raw(torch.arange(train))}.isdisjoint(known)
    if val:
        assert {row.numpy().tobytes() for row in data.val.raw(torch.arange(val))} <= known


def test_own_validation_has_too_few(tmp_path):
    write(tmp_path, words("train/", 3) | words("val/", 2) | words("test/", 1))
    with pytest.raises(DataError, match=r"class 'no' has only 2 .* 3 are wanted"):
        load(tmp_path, val_per_class=3)
    with pytest.raises(DataError, match=r"class 'no' has 3 .* per_class=5 needs 5"):
        load(tmp_path, per_class=5)


def test_spoken_digits(tmp_path):
    files = {f"recordings/{d}_{who}_{take}.wav": tone(200 + 300 * d) for d in range(3)
             for who in ("ann", "bob") for take in (0, 4, 5, 12)}  # fmt: skip
    data = load(f"wav:{packed(tmp_path / 'digits.zip', files)}", val_fraction=0.5)
    assert data.class_names == ("0", "1", "2")
    assert (len(data.train), len(data.val), len(data.test)) == (6, 6, 12)
    assert "takes 0 to 4" in data.description["test_part"]
    # Other names that begin with their class have no test part.
    files = {f"{c}_{i}.wav": tone() for c in ("cough", "laugh") for i in range(6)}
    data = load(f"wav:{write(tmp_path / 'flat', files)}", test_fraction=0.5)
    assert data.class_names == ("cough", "laugh")
    assert (len(data.train), len(data.test)) == (6, 6)


def test_mixed_rates_are_resampled_and_it_is_said(tmp_path):
    files = words(n=3) | words(n=1, classes=("cd", "hi"), rate=44100) | {"hi/1.wav": tone(rate=11025)}
    write(tmp_path, files)
    with pytest.warns(
        LessonplanWarning, match=r"3 of 9 .* not at 8000 Hz but at 11025, 44100 Hz: resampled"
    ) as said:
        data = load(tmp_path, test_fraction=0, augment="none")
    assert len(said) == 1
    assert data.description["resampled"] == 3
    names = sorted(files)
    loudest = {}
    for place, name in enumerate(names):
        image = data.train.raw(torch.tensor([place]))[0, 0].long()
        loudest[name] = int(image.sum(1).argmax())
    assert loudest["cd/0.wav"] == loudest["no/0.wav"]  # 300 Hz is 300 Hz at any rate
    assert loudest["hi/0.wav"] == loudest["yes/0.wav"]


def test_a_test_set_of_its_own_is_made_like_the_training_set(tmp_path):
    write(tmp_path / "a", words(n=3))
    write(tmp_path / "b", words(n=2, rate=16000))
    with pytest.warns(LessonplanWarning, match="4 of 4 .* not at 8000 Hz"):
        data = load(f"wav:{tmp_path / 'a'}", test=f"wav:{tmp_path / 'b'}", image_size=16, clip_seconds=0.25)
    assert data.shape == (1, 16, 16)
    assert (len(data.train), len(data.test)) == (6, 4)
    with pytest.raises(DataError, match="two of a kind"):
        load(f"wav:{tmp_path / 'a'}", test=(np.zeros((2, 32, 32), dtype=np.uint8), ["no", "yes"]))


def test_the_rate_is_that_of_the_training_recordings(tmp_path):
    write(tmp_path, words("train/", n=2) | words("test/", n=5, rate=16000))
    with pytest.warns(LessonplanWarning, match="10 of 14 .* not at 8000 Hz but at 16000 Hz"):
        data = load(f"wav:{tmp_path}")
    assert data.preprocessing.audio.rate == 8000


@pytest.mark.parametrize("inside", [False, True])
def test_bad_recordings_are_named_or_skipped(tmp_path, inside):
    files = words(n=4)
    files["no/1.wav"] = files["no/1.wav"][:1000]
    files["yes/2.wav"] = b"MP3 by another name"
    path = packed(tmp_path / "a.zip", files) if inside else write(tmp_path / "a", files)
    with pytest.raises(
        DataError, match=r"2 of 8 recordings cannot be read: no/1.wav \(cut short.*yes/2.wav \(no WAV"
    ):
        load(path)
    with pytest.warns(LessonplanWarning, match=r"2 of 8 recordings .*left out"):
        data = load(path, on_bad="skip", test_fraction=0)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.description["unreadable_left_out"] == 2


@pytest.mark.parametrize(
    "name", ["../up/a.wav", "no/../../a.wav", "/etc/a.wav", "C:/a.wav", "no\\..\\a.wav", "link"]
)
def test_archives_with_members_outside_their_folder_are_refused(tmp_path, name):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for n, content in words(n=2).items():
            archive.writestr(n, content)
        member = zipfile.ZipInfo("no/9.wav" if name == "link" else "x")
        member.filename = "no/9.wav" if name == "link" else name
        member.external_attr = (0o120777 if name == "link" else 0o100644) << 16
        archive.writestr(member, b"/etc/passwd")
    with pytest.raises(DataError, match=r"outside the archive's folder"):
        load(f"wav:{path}")


def test_broken_archives(tmp_path):
    path = packed(tmp_path / "a.zip", words(n=3))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no zip at all"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"a.zip is no zip archive, or a damaged one"):
            load(f"wav:{path}")
    flipped = bytearray(whole)
    flipped[60] ^= 0xFF  # inside the first member's data
    path.write_bytes(flipped)
    with pytest.raises(DataError, match=r"1 of 6 recordings cannot be read: no/0.wav \(damaged"):
        load(f"wav:{path}")


def test_a_member_that_unpacks_to_more_than_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LARGEST", 2**20)
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    bomb = head + b"data" + struct.pack("<I", 2**20) + bytes(2**20)
    path = packed(tmp_path / "a.zip", {"no/0.wav": tone(), "yes/0.wav": tone(), "yes/1.wav": bomb})
    assert path.stat().st_size < 2**15
    with pytest.raises(DataError, match=r"yes/1.wav \(larger than 1 MiB\)"):
        load(f"wav:{path}")


def test_what_holds_no_recordings(tmp_path):
    for spec, says in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "no WAV files")):
        with pytest.raises(DataError, match=says):
            load(f"wav:{spec}")
    write(tmp_path / "a", {"one.wav": tone(), "two.wav": tone()})
    with pytest.raises(DataError, match=r"one.wav is not named CLASS_"):
        load(f"wav:{tmp_path / 'a'}")
    write(tmp_path / "b", words("train/", 2) | words("test/", 1, ("no", "odd")))
    with pytest.raises(DataError, match="'odd', a class without any to train on"):
        load(f"wav:{tmp_path / 'b'}")
    write(tmp_path / "b", {"test/stray.wav": tone()})
    with pytest.raises(DataError, match=r"test/stray.wav lies in no class folder"):
        load(f"wav:{tmp_path / 'b'}")
    write(tmp_path / "c", words(n=2) | {"testing_list.txt": b"up/1.wav\n"})
    with pytest.raises(DataError, match=r"none of the recordings that testing_list.txt"):
        load(f"wav:{tmp_path / 'c'}")
    write(tmp_path / "d", words(n=2))
    with pytest.raises(DataError, match=r"100 are allowed: raise memory_limit"):
        load(f"wav:{tmp_path / 'd'}", memory_limit=100)
    with pytest.raises(ConfigError, match="clip_seconds=0"):
        load(f"wav:{tmp_path / 'd'}", clip_seconds=0)
    with pytest.raises(ConfigError, match="no more steps than samples"):
        load(f"wav:{tmp_path / 'd'}", clip_seconds=0.01, image_size=128)


def test_augmentation_is_a_shift_in_time(tmp_path):
    data = load(write(tmp_path, words(n=4)), test_fraction=0)
    assert str(data.train.augment) == "shift:3"
    still = data.train.raw(torch.arange(8))
    raw = data.train.augment(still, data.train.rows, seed=0, epoch=1)
    moved = [
        next(d for d in range(-3, 4) if torch.equal(a, shifted(b, d))) for a, b in zip(raw, still, strict=True)
    ]
    assert len(set(moved)) > 2


def shifted(image: torch.Tensor, by: int) -> torch.Tensor:
    out = torch.zeros_like(image)
    w = image.shape[-1]
    out[..., max(0, -by) : w - max(0, by)] = image[..., max(0, by) : w + min(0, by)]
    return out


def test_a_users_own_recording_becomes_what_training_saw(tmp_path):
    files = words(n=3)
    data = load(write(tmp_path, files), test_fraction=0, augment="none")
    prepare = Preprocessing.from_dict(json.loads(json.dumps(data.preprocessing.to_dict())))
    assert prepare == data.preprocessing
    seen, _ = data.train.fetch(torch.arange(6))
    assert torch.equal(prepare([tmp_path / name for name in files]), seen)
    assert torch.equal(prepare(data.train.raw(torch.arange(6))), seen)
    samples = (np.frombuffer(files["no/0.wav"][44:], dtype="<i2") / 32768).astype(np.float32)
    assert torch.equal(prepare([Recording(8000, samples)]), seen[:1])
    (tmp_path / "no" / "0.wav").write_bytes(b"RIFF")
    for wrong, says in ((tmp_path / "no" / "0.wav", r"0.wav cannot be read as a WAV file"),
                        (np.zeros((32, 32), dtype=np.uint8), "classifies recordings")):  # fmt: skip
        with pytest.raises(DataError, match=says):
            prepare([wrong])
    images = load("digits", per_class=2).preprocessing
    assert "audio" not in images.to_dict()
    with pytest.raises(DataError, match="images, not recordings"):
        images([Recording(8000, samples)])


@pytest.mark.parametrize(("model", "mix"), [("lenet", "mixup"), ("lenet", "cutmix"), ("vgg-11", "gradual:k=2")])
def test_networks_and_mixes_take_spectrograms(tmp_path, model, mix):
    data = load(write(tmp_path, words(n=6)), test_fraction=0.4)
    run = lp.fit(model, data, mix, budget="1ep", batch_size=4, threads=1)
    assert 0 <= run.result["test"]["accuracy"] <= 1


def test_words_are_learnt(tmp_path):
    """Two tones can be told apart if the spectrogram keeps pitch: a chain that lost it would stay at one half."""
    data = load(write(tmp_path, words(n=12)), test_fraction=0.5)
    run = lp.fit("lenet", data, None, budget="30ep", batch_size=6, lr=0.02, threads=1)
    assert run.result["test"]["accuracy"] == 1.0


@pytest.mark.skipif(not REAL.is_file(), reason="LESSONPLAN_DATA is not set")
def test_real_spoken_digits():
    data = load(f"wav:{REAL}")
    assert (len(data.train), len(data.test)) == (2700, 300)
    assert data.class_names == tuple("0123456789")
    assert data.test.labels.bincount().tolist() == [30] * 10
    assert data.description["duplicates"]["left_out"] == 0
