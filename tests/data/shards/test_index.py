"""The index of shards: made once, found again, made anew when anything about it or the shards is not as it was."""

from __future__ import annotations

import os
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from data.shards.conftest import encoded, packed
from lessonplan.data import Data, load
from lessonplan.data.shards import files, tar
from lessonplan.errors import DataError, LessonplanWarning

PICTURES = {f"{i}.png": encoded(np.full((4, 4, 3), 20 * i, np.uint8)) for i in range(12)}
LABELS = {f"{i}.cls": b"%d" % (i % 2) for i in range(12)}
EVERY = torch.arange(12)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return packed(tmp_path / "a.tar", PICTURES | LABELS)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often shards were read from their beginning to their end."""
    seen: list[int] = []
    rows = tar._rows

    def counted(files):
        seen.append(len(files))
        return rows(files)

    monkeypatch.setattr(tar, "_rows", counted)
    return seen


def opened(shard: Path, **more) -> Data:
    return load(f"tar:{shard}", **{"memory_limit": 0, "test_fraction": 0, "augment": "none", "workers": 0} | more)


def test_made_once(shard: Path, made: list[int], own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(shard)
    monkeypatch.chdir(shard.parent)
    assert opened(Path("a.tar")).fingerprint == first.fingerprint
    assert len(made) == 1
    assert [path.name for path in (own_cache / "shards").glob("*/*") if not path.name.startswith(".")] == ["index"]


def test_a_sample_is_read_with_one_pread_of_its_bytes(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = opened(shard), []
    pread = os.pread

    def noted(handle, size, start):
        seen.append((size, start))
        return pread(handle, size, start)

    monkeypatch.setattr(os, "pread", noted)
    data.train.raw(torch.tensor([7, 2]))
    whole = shard.read_bytes()
    assert [whole[start : start + size] for size, start in seen] == [PICTURES["2.png"], PICTURES["7.png"]]


def _damages(path: Path) -> None:
    content = path.read_bytes()
    for at in (3, 40, 130, 300, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        yield
    for less in (1, 100, len(content) - 60, len(content)):
        path.write_bytes(content[: len(content) - less])
        yield
    path.write_bytes(b"lessonplan-shards-1 " + b"0" * 32 + b" 7".ljust(75) + b"\n{}")
    yield
    path.unlink()
    path.mkdir()
    yield
    path.rmdir()


def test_damaged_or_foreign_ones_are_made_again(shard: Path, made: list[int], own_cache: Path) -> None:
    before = opened(shard)
    (index,) = (own_cache / "shards").glob("*/index")
    for number, _ in enumerate(_damages(index)):
        if index.is_dir():
            with pytest.warns(LessonplanWarning, match=r"the index of .*a\.tar and 0 other shards is not kept"):
                again = opened(shard)
        else:
            again = opened(shard)
        assert len(made) == number + 2
        assert again.fingerprint == before.fingerprint
    other = packed(shard.parent / "b.tar", PICTURES | LABELS)
    opened(other)
    (theirs,) = set((own_cache / "shards").glob("*/index"))
    index.parent.mkdir(exist_ok=True)
    index.write_bytes(theirs.read_bytes())  # whole, but of other shards
    assert opened(shard).train.source.images.files.stamps[0].path == str(shard)


def test_where_nothing_can_be_kept(shard: Path, made: list[int], own_cache: Path) -> None:
    (own_cache / "shards").write_text("no folder")
    for number in range(2):
        with pytest.warns(LessonplanWarning, match="will be made again"):
            data = opened(shard)
        assert len(made) == number + 1
    assert torch.equal(pickle.loads(pickle.dumps(data.train.source)).read(EVERY), data.train.raw(EVERY))


def test_shards_that_change(shard: Path, made: list[int]) -> None:
    """Before they are opened again they are indexed anew; while they are read it is an error."""
    data = opened(shard)
    data.train.raw(EVERY)
    os.utime(shard, ns=(1, 1))
    with pytest.raises(DataError, match=r"a\.tar was changed since it was indexed: leave shards alone"):
        data.train.raw(EVERY)
    data = opened(shard)
    assert len(made) == 2
    packed(shard, {**PICTURES, "0.png": PICTURES["1.png"]} | LABELS)
    changed = opened(shard)
    assert len(made) == 3
    assert torch.equal(changed.train.raw(EVERY)[0], changed.train.raw(EVERY)[1])
    with pytest.raises(DataError, match="was changed since it was indexed"):
        data.train.raw(EVERY)
    shard.unlink()
    anew = pickle.loads(pickle.dumps(changed.train.source))
    with pytest.raises(DataError, match=r"a\.tar cannot be read any more"):
        anew.read(EVERY)


def test_a_change_is_told_through_worker_processes(shard: Path) -> None:
    data = opened(shard, workers=1)
    os.utime(shard, ns=(1, 1))
    with pytest.raises(DataError, match=r"^.*a\.tar was changed since it was indexed"):
        next(iter(data.train.batches([EVERY])))
    data.close()


def test_shards_that_change_while_they_are_indexed(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tar._rows

    def meanwhile(files):
        found = rows(files)
        os.utime(shard, ns=(1, 1))
        return found

    monkeypatch.setattr(tar, "_rows", meanwhile)
    with pytest.raises(DataError, match="was changed while it was read: wait until it is whole"):
        opened(shard)


def test_an_index_that_was_made_anew_behind_a_processs_back(shard: Path, own_cache: Path) -> None:
    sent = pickle.dumps(opened(shard).train.source)
    os.utime(shard, ns=(1, 1))
    opened(shard)
    with pytest.raises(DataError, match="was changed while it was in use: begin again"):
        pickle.loads(sent)


def _slowly(shard: Path, marks: Path) -> str:
    rows = tar._rows

    def noted(files):
        (marks / str(os.getpid())).touch()
        time.sleep(0.2)
        return rows(files)

    tar._rows = noted
    return opened(shard).fingerprint


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_of_several_processes_one_makes_it(shard: Path, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        prints = list(pool.map(_slowly, [shard] * 3, [tmp_path / "marks"] * 3))
    assert len(set(prints)) == 1
    assert len(list((tmp_path / "marks").iterdir())) == 1


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"a\.tar is no regular file"):
        load(f"tar:{tmp_path / 'a.tar'}")


def test_more_shards_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_OPEN", 3)
    for number in range(12):
        packed(tmp_path / f"{number:03d}.tar", {"0.png": PICTURES[f"{number}.png"], "0.cls": b"%d" % (number % 2)})
    source = opened(tmp_path).train.source
    for _ in range(2):
        assert source.read(EVERY)[:, 0, 0, 0].tolist() == [20 * number for number in range(12)]
        assert len(source.images.files._open) == 3
