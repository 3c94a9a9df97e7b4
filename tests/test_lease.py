"""One process at a time in a folder, whatever locks the file system has, and whatever the clocks say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lessonplan import lease
from lessonplan.errors import ConfigError, RunFailed
from lessonplan.lease import Lease, highest_lease, holder_of, wait_for_the_dead
from lessonplan.lock import sole_user
from lessonplan.signals import sigterm_interrupts


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)


def held_elsewhere(folder: Path, age: float = 0.0, number: int = 1, **says) -> Path:
    """What a process of another machine left, touched so many seconds ago."""
    content = {"host": "node7", "pid": 5, "place": "node7", "started": 1.0, "since": 1.0, "token": "t", **says}
    file = folder / f".lease-{number}"
    file.write_text(json.dumps(content))
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_a_lease_of_another_machine_holds_while_it_beats(tmp_path):
    held_elsewhere(tmp_path, age=45)
    with pytest.raises(ConfigError, match=r"another process is at work in .* \(process 5 on node7\): wait"):
        Lease(tmp_path)
    with pytest.raises(ConfigError, match="node7"), sole_user(tmp_path):
        pass
    assert holder_of(tmp_path).host == "node7"


def test_a_lease_that_missed_its_beats_is_taken_over_and_cleared_away(tmp_path):
    old = held_elsewhere(tmp_path, age=75, number=4)
    ours = Lease(tmp_path)
    assert not old.exists()
    assert highest_lease(tmp_path)[:2] == (5, ours._holder)
    ours.release()
    assert not list(tmp_path.glob(".lease*"))


@pytest.mark.parametrize("content", ["", '{"host": "a"', "[]", '{"host": 1, "pid": "x"}', "\x00"])
def test_a_file_that_says_nothing_is_judged_by_its_age(tmp_path, content):
    file = held_elsewhere(tmp_path)
    file.write_text(content)
    with pytest.raises(ConfigError, match="another machine"):
        Lease(tmp_path)
    os.utime(file, (time.time() - 75,) * 2)
    Lease(tmp_path).release()


def test_a_killed_process_of_this_machine_holds_nothing_at_once(tmp_path):
    code = "import sys, time; from pathlib import Path; from lessonplan.lease import Lease\n"
    code += "Lease(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(ConfigError, match=f"process {process.pid} on"):
        Lease(tmp_path)
    process.kill()
    process.wait()
    process.stdout.close()
    assert holder_of(tmp_path) is None
    Lease(tmp_path).release()


def test_a_later_process_with_the_number_of_the_dead_one_does_not_hold(tmp_path):
    held_elsewhere(tmp_path, age=75, place=lease._place(), pid=os.getpid(), started=1.0)
    Lease(tmp_path).release()


def test_beats_keep_it_and_the_age_is_told_by_the_file_systems_clock(tmp_path, quick, monkeypatch):
    ours = Lease(tmp_path)
    monkeypatch.setattr(lease.time, "time", lambda: 0.0)  # this machine's clock is of no account
    time.sleep(1.0)
    assert highest_lease(tmp_path)[2] < lease.MISSED_BEATS
    ours.release()


def test_of_many_that_take_over_one_does(tmp_path):
    """Six rounds of 24 threads against one stale lease; the refused ones say who holds it."""
    for _ in range(6):
        held_elsewhere(tmp_path, age=75)
        won, start = [], threading.Barrier(24)

        def contend(won=won, start=start):
            start.wait()
            with contextlib.suppress(ConfigError):
                won.append(Lease(tmp_path))

        threads = [threading.Thread(target=contend) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].release()
        assert not list(tmp_path.glob(".lease*"))


@pytest.fixture
def signals():
    """What signals do is as it was afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ignored", [False, True])  # as in the background of a shell script
def test_one_that_stood_still_learns_that_the_folder_is_anothers(tmp_path, quick, signals, ignored):
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)

    def stand_still():
        with sigterm_interrupts(), sole_user(tmp_path):
            held_elsewhere(tmp_path, number=highest_lease(tmp_path)[0] + 1)
            time.sleep(30)

    with pytest.raises(RunFailed, match="another process took"):
        stand_still()
    taken = highest_lease(tmp_path)[1]  # which keeps what it took, stale or not by now
    assert taken is not None
    assert taken.host == "node7"


def test_where_no_signal_is_handled_the_process_ends(tmp_path):
    code = """if True:
        import signal, sys, time
        from pathlib import Path
        from lessonplan import lease
        from lessonplan.lock import sole_user
        lease.BEAT_SECONDS = 0.05
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with sole_user(Path(sys.argv[1])):
            for file in Path(sys.argv[1]).glob(".lease-*"):
                file.unlink()
            time.sleep(60)
    """
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1
    assert "another process took the folder" in ended.stderr


def test_waiting_for_the_dead_ends_when_it_is_dead_or_lives(tmp_path, quick):
    held_elsewhere(tmp_path)
    began = time.monotonic()
    wait_for_the_dead(tmp_path)
    assert 0.3 < time.monotonic() - began < 5
    assert holder_of(tmp_path) is None
    living = Lease(tmp_path)
    wait_for_the_dead(tmp_path)
    assert holder_of(tmp_path) == living._holder
    living.release()


def test_without_locks_of_the_file_system_a_second_process_is_refused(tmp_path, monkeypatch):
    import errno
    import fcntl

    def none(handle, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    first = sole_user(tmp_path)
    with first, pytest.raises(ConfigError, match="another process is at work"), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass
