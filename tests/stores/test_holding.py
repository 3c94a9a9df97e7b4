"""One process at a time at a URL, whether or not the store can make an object only where there is none."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest

from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.stores import holding as holding_module
from lessonplan.stores import opened
from lessonplan.stores.holding import Holding, UrlHeld
from lessonplan.stores.objects import Objects, StoreError

URL = "told://bucket/run"
LEASE = "/bucket/run/.lessonplan/lease-"


def put_lease(told, age: float, number: int = 1) -> None:
    """What a process of another machine left so many seconds ago."""
    content = {"host": "node7", "pid": 5, "place": "node7", "started": 1.0, "since": 1.0, "token": "t"}
    objects = Objects(URL)
    objects.write(f".lessonplan/lease-{number}", json.dumps(content).encode())
    told.store[f"{LEASE}{number}"].modified -= timedelta(seconds=age)


def leases(told) -> list[str]:
    return sorted(path.removeprefix(LEASE) for path in told.store if path.startswith(LEASE))


def test_a_holder_elsewhere_is_named_while_it_beats(told):
    put_lease(told, age=60)
    with pytest.raises(
        UrlHeld, match=r"another process is at work in told://bucket/run \(process 5 on node7\): wait"
    ):
        Holding(Objects(URL))
    with pytest.raises(ConfigError, match="node7"), opened(URL):
        pass
    assert leases(told) == ["1"]


def test_a_holder_that_missed_its_beats_is_taken_over(told):
    put_lease(told, age=100, number=3)
    holding = Holding(Objects(URL))
    assert leases(told) == ["4"]
    assert holding.still()
    holding.release(answers=True)
    assert leases(told) == []


def test_two_in_one_process_are_kept_apart_too(told):
    with opened(URL), pytest.raises(ConfigError, match="another process is at work in told://bucket/run"):
        opened(URL).__enter__()


@pytest.mark.parametrize("conditional", [True, False])
def test_of_many_that_begin_at_once_one_holds_it(told, conditional, monkeypatch):
    if not conditional:

        def without(self, path, value, mode="overwrite", **kwargs):
            if mode == "create":
                raise NotImplementedError
            return super(told, self).pipe_file(path, value)

        monkeypatch.setattr(told, "pipe_file", without)
    held, refused = [], []
    begin = threading.Barrier(6)

    def take():
        begin.wait()
        try:
            held.append(Holding(Objects(URL)))
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 5)
    held[0].release(answers=True)


def test_a_holder_whose_lease_was_taken_over_sends_nothing_more(told, monkeypatch):
    monkeypatch.setattr(holding_module, "MISSED_BEATS", 2)  # as a laptop that slept, it asks before it sends
    expected = r"1 files of it were not sent to told://bucket/run \(another process took it"

    def work():
        with opened(URL) as place:
            put_lease(told, age=0, number=9)
            (place.folder / "config.yaml").write_text("mine")
        return place

    with pytest.warns(LessonplanWarning, match=expected):
        place = work()
    assert "/bucket/run/config.yaml" not in told.store
    assert (place.folder / "config.yaml").read_text() == "mine"
    assert place.kept is not None


def test_a_store_that_answers_late_is_no_reason_to_refuse_oneself(told):
    lost = [True]

    def after(operation, path):
        if operation == "write" and "lease" in path and lost:
            lost.clear()
            raise OSError("Connection reset by peer")  # it had arrived

    told.after = staticmethod(after)
    Holding(Objects(URL)).release(answers=True)


def test_a_beat_that_fails_is_no_loss(told, monkeypatch):
    holding = Holding(Objects(URL))
    told.before = staticmethod(lambda operation, path: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(StoreError):
        holding._confirm()
    assert not holding.lost
    told.before = staticmethod(lambda operation, path: None)
    holding.release(answers=True)
