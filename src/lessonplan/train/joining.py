"""How processes find one another to train one network, and make sure that they mean the same run."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.launched import place_on_machine, started_together
from lessonplan.network.accelerator import is_accelerator, resolve_device
from lessonplan.network.lost_ranks import NOTICED, Place, Watch
from lessonplan.network.ranks import ALONE, Ranks
from lessonplan.stores import Location, is_url, opened
from lessonplan.train.run_folder import describe_differences, in_words
from lessonplan.version import __version__

_PATIENCE = timedelta(days=7)  # lost ranks are noticed by the watch; whoever only takes long is waited for
_SETTLED = 0.05
"""Seconds in which gloo's threads let go of the last tensors, which aborts a process that is ending
(``leaving.leave``); programs of a user's own may end right behind ``fit``."""
_SHORTLY = 1.5  # seconds in which a rank that is gone is noticed on the same machine


@contextmanager
def present_ranks() -> Iterator[Ranks]:
    """The ranks of the process group that is initialised, or the one that is alone.

    Inside, a rank that is gone ends the others.

    Raises:
        ConfigError: torchrun has started several processes, and nobody has joined them.
        RankLost: another rank has ended or hangs.
    """
    if not (dist.is_available() and dist.is_initialized()):
        _check_not_started_for_several()
        yield ALONE
        return
    if dist.get_world_size() == 1:
        yield ALONE
        return
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=_PATIENCE))
    places = [Place(**place) for place in ranks.all_told(Place.here().state_dict())]
    key = f"lessonplan/{ranks.told(uuid.uuid4().hex)}"
    watch = Watch(dist.distributed_c10d._get_default_store(), ranks.rank, places, key)
    try:
        yield ranks
        ranks.wait()  # nobody is missed before all are done
        time.sleep(_SETTLED)
    except BaseException as error:
        lost = None
        # What we say ourselves was found here, even where another rank has found it, and ended, a moment before.
        if not isinstance(error, LessonplanError):
            try:
                lost = watch.lost(_until_noticed(error))
            except KeyboardInterrupt:  # torchrun ends the others as soon as one is gone
                lost = watch.lost(_SHORTLY)
        if lost is not None:
            raise lost from error
        if not isinstance(error, KeyboardInterrupt):
            watch.say_last(error)
        raise
    finally:
        watch.stop()
    dist.destroy_process_group(ranks.group)


def _until_noticed(error: BaseException) -> float:
    """How long a rank that is gone may be behind an error without having been noticed, in seconds."""
    if isinstance(error, KeyboardInterrupt):
        return _SHORTLY
    said = str(error).lower()
    of_others = isinstance(error, RuntimeError) and any(word in said for word in ("gloo", "nccl", "connection"))
    return NOTICED if of_others else 0.0


def _check_not_started_for_several() -> None:
    if started_together() > 1:
        raise ConfigError(
            f"this process is one of {started_together()} that were started to train together (WORLD_SIZE), and"
            " they have not been joined: call torch.distributed.init_process_group() before fit, or start one"
            " process"
        )


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun has started, each with an accelerator of its own where there are any.

    Args:
        device: the setting; "cpu" is the CPU for all.

    Raises:
        ConfigError: there are fewer accelerators than ranks on this machine.
    """
    if started_together() == 1:
        yield ALONE
        return
    if is_accelerator(resolve_device(device)):
        (local, ranks), count = place_on_machine(), torch.accelerator.device_count()
        if ranks > count:
            raise ConfigError(
                f"{ranks} ranks on a machine with {count} accelerators: start as many as there are, or give"
                " --device cpu"
            )
        torch.accelerator.set_device_index(local)
        dist.init_process_group()  # what each device has: NCCL for CUDA, gloo for the CPU
    else:
        dist.init_process_group("gloo")
    yield Ranks(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # behind an error others may be gone, and nobody could take leave of them


@contextmanager
def shared_place(out: str | Path | None, ranks: Ranks) -> Iterator[Location | None]:
    """The run's folder, for all ranks; that of a URL is fetched and sent by the first one, see ``opened``."""
    if out is None or not is_url(out):
        yield Location(Path(out)) if out is not None else None
        return
    if not ranks.alone and ranks.group is None:  # of the command line, which has joined them only just
        ranks = replace(ranks, group=dist.new_group(backend="gloo", timeout=_PATIENCE))
    with ExitStack() as held:
        places: list[Location] = []
        folder = ranks.by_first(lambda: _open(out, held, places))
        yield places[0] if places else Location(Path(folder), str(out))


def _open(out: str | Path, held: ExitStack, places: list[Location]) -> str:
    places.append(held.enter_context(opened(out)))
    return str(places[0].folder)


def check_same(ranks: Ranks, config: dict[str, Any]) -> None:
    """Compare what all ranks are about to do.

    Args:
        ranks: all of them.
        config: the run's identity, with the fingerprint of its data.

    Raises:
        ConfigError: they differ in it, in versions or in code; on all ranks.
    """
    if ranks.alone:
        return
    own = {**config, "lessonplan": __version__, "code": code_digest(), "torch": torch.__version__}
    said = [json.loads(text) for text in ranks.all_told(json.dumps(own))]
    for rank, other in enumerate(said):
        differences = describe_differences(said[0], other)
        if differences:
            raise ConfigError(
                f"rank {rank} is about to do something else than rank 0 ({in_words(differences)}): start all ranks"
                " with the same command, code, versions and data"
            )


@cache
def code_digest() -> str:
    """What tells this package's code from another state of it."""
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
