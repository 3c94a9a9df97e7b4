from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import resource
import signal
from pathlib import Path

import pytest
import torch

from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.files import write_atomically
from lessonplan.train.checkpoint import Checkpoints

STOPPED = "stopped by the test"


@pytest.fixture
def interrupted(quick, hook, tmp_path):
    """A run of 24 steps that stopped behind step 10 with checkpoints at 6 and 9, and a way to end it."""

    def stop(trainer) -> None:
        if trainer.counters.steps == 10:
            raise RuntimeError(STOPPED)

    def run(**options):
        return quick("sum:k=2", "24 steps", out=tmp_path / "run", checkpoint_every="3 steps", **options)

    with pytest.raises(RuntimeError, match=STOPPED):
        run(callbacks=[hook(on_batch_end=stop)])
    assert _steps(tmp_path / "run") == [6, 9]
    return run


@pytest.fixture
def whole(quick):
    return quick("sum:k=2", "24 steps")


def _files(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*.ckpt"))


def _steps(run: Path) -> list[int]:
    return [int(file.stem.removeprefix("step-")) for file in _files(run)]


def _resumed_at(hook, log: list[int]):
    return [hook(on_train_start=lambda trainer: log.append(trainer.counters.steps))]


def _seal(path: Path, payload: bytes) -> None:
    """A checkpoint whose length and checksum are right, whatever it holds."""
    digest = hashlib.sha256(payload).hexdigest().encode()
    path.write_bytes(b"lessonplan-checkpoint-1 %s %d\n" % (digest, len(payload)) + payload)


def test_state_goes_round_and_two_are_kept(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.load_newest() is None
    for step in (0, 5, 10, 100_000):
        checkpoints.save(step, {"step": step, "weights": torch.full((3,), float(step)), "more": [None, (1, "a")]})
    assert [f.name for f in sorted((tmp_path / "c").iterdir())] == ["step-0000000010.ckpt", "step-0000100000.ckpt"]
    state = checkpoints.load_newest()
    assert (state["step"], state["more"], state["weights"].tolist()) == (100_000, [None, (1, "a")], [1e5] * 3)


def test_the_checksum_is_of_the_content(tmp_path) -> None:
    """A sound archive of the right length, but not the one that was written."""
    one, other = Checkpoints(tmp_path / "one"), Checkpoints(tmp_path / "other")
    for checkpoints, value in ((one, 1.0), (other, 2.0)):
        checkpoints.save(0, {"value": torch.tensor(0.0)})
        checkpoints.save(1, {"value": torch.tensor(value)})
    header, _, _ = (tmp_path / "one" / "step-0000000001.ckpt").read_bytes().partition(b"\n")
    _, _, payload = (tmp_path / "other" / "step-0000000001.ckpt").read_bytes().partition(b"\n")
    assert header.endswith(b" %d" % len(payload))
    (tmp_path / "one" / "step-0000000001.ckpt").write_bytes(header + b"\n" + payload)
    with pytest.warns(LessonplanWarning, match="damaged"):
        assert one.load_newest() == {"value": torch.tensor(0.0)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: content + b"\0",
        lambda content: b"another-program-1" + content,
        lambda content: os.urandom(1000),
    ],
)
def test_a_damaged_newest_is_skipped_and_the_end_is_the_same(
    interrupted, whole, same_run, hook, tmp_path, damage
) -> None:
    newest = _files(tmp_path / "run")[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    log: list[int] = []
    with pytest.warns(LessonplanWarning, match=r"step-0000000009.ckpt is damaged and is skipped"):
        run = interrupted(callbacks=_resumed_at(hook, log))
    assert log == [6]
    same_run(whole, run)


def test_all_damaged_starts_anew_with_the_same_end(interrupted, whole, same_run, hook, tmp_path) -> None:
    for file in _files(tmp_path / "run"):
        file.write_bytes(file.read_bytes()[:100])
    log: list[int] = []
    with pytest.warns(LessonplanWarning) as warned:
        run = interrupted(callbacks=_resumed_at(hook, log))
    assert len(warned) == 2
    assert log == [0]
    same_run(whole, run)


def test_a_damaged_file_does_not_take_the_place_of_a_kept_one(interrupted, hook, tmp_path) -> None:
    """Damaged at 9, resumed at 6: when 7 is written, 6 must stay, for 7 might be damaged next."""
    newest = _files(tmp_path / "run")[-1]
    newest.write_bytes(b"damaged")
    seen: list[list[int]] = []

    def look(trainer) -> None:
        seen.append(_steps(tmp_path / "run"))
        trainer._checkpoint()

    with pytest.warns(LessonplanWarning):
        interrupted(callbacks=[hook(on_batch_end=look)])
    assert seen[0] == [6]
    assert seen[1:3] == [[6, 7], [7, 8]]


def test_an_intact_older_one_is_not_read(interrupted, whole, same_run, hook, tmp_path) -> None:
    _files(tmp_path / "run")[0].write_bytes(b"damaged")
    log: list[int] = []
    run = interrupted(callbacks=_resumed_at(hook, log))
    assert log == [9]
    same_run(whole, run)


class _Bomb:
    """Unpickled carelessly, this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "nested"])
def test_code_in_a_checkpoint_is_refused_and_never_run(interrupted, whole, same_run, tmp_path, kind: str) -> None:
    bomb, newest = _Bomb(tmp_path / "exploded"), _files(tmp_path / "run")[-1]
    if kind == "pickle":
        _seal(newest, pickle.dumps({"weights": bomb}, protocol=2))
    else:
        buffer = io.BytesIO()
        torch.save(bomb if kind == "torch" else {"weights": {"model": bomb}}, buffer)
        _seal(newest, buffer.getvalue())
    with pytest.warns(LessonplanWarning, match="is damaged and is skipped"):
        run = interrupted()
    assert not (tmp_path / "exploded").exists()
    same_run(whole, run)
    pickle.loads(pickle.dumps(bomb))
    assert (tmp_path / "exploded").exists(), "the test's bomb is a dud"


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment of the rename the new content is already synced, and the old one is still in place."""
    path, events = tmp_path / "file", []
    path.write_bytes(b"old")
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        events.append(("sync", path.read_bytes()))
        fsync(handle)

    def noted_replace(self: Path, target: Path):
        events.append(("rename", self.read_bytes(), path.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_atomically(path, b"new")
    # The last sync is the folder's: it makes the rename itself durable.
    assert events == [("sync", b"old"), ("rename", b"new", b"old"), ("sync", b"new")]
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(handle: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError if isinstance(error, OSError) else KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_path_through_a_file_is_a_users_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        write_atomically(tmp_path / "file" / "run" / "config.yaml", b"")


def test_leftovers_of_killed_processes_are_removed(interrupted, tmp_path) -> None:
    leftovers = [
        tmp_path / "run" / ".weights.safetensors.1.tmp",
        tmp_path / "run" / "checkpoints" / ".step-9.ckpt.1.tmp",
    ]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    interrupted()
    assert not any(leftover.exists() for leftover in leftovers)


@pytest.mark.parametrize("failing", range(1, 9))
def test_full_disk_at_any_sync(interrupted, whole, same_run, tmp_path, monkeypatch, failing: int) -> None:
    """The disk is full at the n-th sync: one clear sentence, what was there is usable, the end is the same."""
    fsync, calls = os.fsync, [0]

    def full(handle: int) -> None:
        calls[0] += 1
        if calls[0] >= failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"the disk is full.*run it again"):
        interrupted()
    monkeypatch.setattr(os, "fsync", fsync)
    assert len(_files(tmp_path / "run")) >= 2
    same_run(whole, interrupted())


def test_full_disk_for_metrics(interrupted, whole, same_run, tmp_path, monkeypatch) -> None:
    """Half a line is written before the disk is full; the resumed run's metrics have no trace of it."""
    metrics = tmp_path / "run" / "metrics.jsonl"
    opened = Path.open

    def full(self: Path, mode: str = "r", *args, **kwargs):
        if self == metrics and mode == "ab":
            with opened(metrics, "a") as file:
                file.write('{"epoch": 1, "st')
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match="the disk is full"):
        interrupted()
    monkeypatch.undo()
    assert metrics.read_text().endswith('"st')
    same_run(whole, interrupted())
    assert "st\n" not in metrics.read_text()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
def test_a_limit_on_file_size(interrupted, whole, same_run, tmp_path) -> None:
    """A real refusal by the kernel in the middle of a write."""
    size = _files(tmp_path / "run")[-1].stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
        with pytest.raises(DataError, match=r"could not be written \(File too large\)"):
            interrupted()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert _steps(tmp_path / "run") == [6, 9]
    same_run(whole, interrupted())


# -- what is read, skipped and let go of, without a run ---------------------------------------------------


@pytest.fixture
def two(tmp_path) -> Checkpoints:
    """Two sound checkpoints, at 1 and 2."""
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(step, {"step": step})
    return checkpoints


def test_what_is_skipped_stays_under_another_name(two) -> None:
    newest = two.newest()
    newest.write_bytes(b"damaged")
    with pytest.warns(LessonplanWarning, match="is damaged and is skipped"):
        assert two.load_newest() == {"step": 1}
    assert sorted(os.listdir(two.folder)) == ["step-0000000001.ckpt", "step-0000000002.damaged"]
    assert newest.with_suffix(".damaged").read_bytes() == b"damaged"


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(two, monkeypatch) -> None:
    two.newest().write_bytes(b"damaged")

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.warns(LessonplanWarning, match="is damaged and is skipped"):
        assert two.load_newest() == {"step": 1}


@pytest.mark.parametrize(
    "header",
    [
        b"lessonplan-checkpoint-1",
        b"lessonplan-checkpoint-1 %(digest)s",
        b"lessonplan-checkpoint-1 %(digest)s %(length)d 0",
        b"lessonplan-checkpoint-2 %(digest)s %(length)d",
        b"lessonplan-checkpoint-1 %(digest)s 7",
        b"lessonplan-checkpoint-1 0 %(length)d",
    ],
)
def test_a_header_that_is_wrong_in_one_place(two, header: bytes) -> None:
    payload = two.newest().read_bytes().partition(b"\n")[2]
    digest = hashlib.sha256(payload).hexdigest().encode()
    two.newest().write_bytes(header % {b"digest": digest, b"length": len(payload)} + b"\n" + payload)
    with pytest.warns(LessonplanWarning, match="is damaged and is skipped"):
        assert two.load_newest() == {"step": 1}


@pytest.mark.parametrize("content", [["a list"], None, "text"])
def test_what_is_no_state_is_damaged(two, content) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    _seal(two.newest(), buffer.getvalue())
    with pytest.warns(LessonplanWarning, match="is damaged and is skipped"):
        assert two.load_newest() == {"step": 1}


def test_code_is_not_run_either_where_the_environment_allows_it(two, tmp_path, monkeypatch) -> None:
    """PyTorch's switch speaks for calls that say nothing themselves."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    buffer = io.BytesIO()
    torch.save({"weights": _Bomb(tmp_path / "exploded")}, buffer)
    _seal(two.newest(), buffer.getvalue())
    with pytest.warns(LessonplanWarning, match="is damaged and is skipped"):
        assert two.load_newest() == {"step": 1}
    assert not (tmp_path / "exploded").exists()
    torch.load(io.BytesIO(buffer.getvalue()))
    assert (tmp_path / "exploded").exists(), "the switch is not what this test takes it for"


def test_what_a_gpu_wrote_is_read_to_the_cpu(two, monkeypatch) -> None:
    """Also where there is none, for which PyTorch would refuse."""
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        two.save(3, {"weights": torch.arange(3)})
    weights = two.load_newest()["weights"]
    assert weights.device.type == "cpu"
    assert weights.tolist() == [0, 1, 2]


def test_short_memory_is_no_damage(two, monkeypatch) -> None:
    """Neither while a checkpoint is read nor while it is taken back: it is used when there is memory again."""

    def short(*_: object, **__: object) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        two.resume(short)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", short)
        with pytest.raises(MemoryError):
            two.load_newest()
    assert two.load_newest() == {"step": 2}


def test_where_none_can_be_used_everything_is_as_before(two) -> None:
    """The first try has spoilt what there was; what is taken back is a copy of before, also of what is inside."""
    present, taken, asked = {"log": ["before"]}, [], []

    def take(state: dict) -> str:
        taken.append(state)
        if "step" in state:
            present["log"].append("spoilt")
            raise ValueError("another run's")
        return "taken"

    def before() -> dict:
        asked.append(1)
        return present

    with pytest.warns(LessonplanWarning, match=r"is damaged or another run's \(ValueError: another run's\)"):
        assert two.resume(take, before) is None
    assert taken == [{"step": 2}, {"step": 1}, {"log": ["before"]}]
    assert len(asked) == 1
    two.save(3, {"log": []})
    assert two.resume(take, before) == "taken"


def test_older_ones_stay_until_the_new_one_is_seen_to_be_sound(two, monkeypatch) -> None:
    """A disk that loses the end of a file without a word."""
    monkeypatch.setitem(
        Checkpoints.save.__globals__, "write_atomically", lambda path, content: path.write_bytes(content[:-1])
    )
    two.save(3, {"step": 3})
    two.save(4, {"step": 4})
    assert [file.stem for file in sorted(two.folder.iterdir())] == [f"step-{n:010d}" for n in (1, 2, 3, 4)]


def test_an_old_one_that_another_process_has_removed_already(two, monkeypatch) -> None:
    there = Path.glob
    gone = two.folder / "step-0000000000.ckpt"
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [gone, *there(self, pattern)])
    two.save(3, {"step": 3})
    assert [file.name for file in sorted(two.folder.iterdir())] == ["step-0000000002.ckpt", "step-0000000003.ckpt"]
