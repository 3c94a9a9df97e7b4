"""Runs on many machines: which cluster a text names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.lab.executor import Executor
from lessonplan.lab.on_ray import RayExecutor
from lessonplan.lab.on_slurm import SlurmExecutor
from lessonplan.text_options import read_pairs, read_values

CLUSTERS = ("ray", "slurm")
_RAY = {"address": str, "cpus": float, "gpus": float, "memory": str, "retries": int}
_SLURM = {
    "hours": float,
    "partition": str,
    "cpus": int,
    "gpus": int,
    "memory": str,
    "account": str,
    "constraint": str,
    "on": str,
}


def cluster_executor(text: str, folder: Path, threads: int = 1, at_once: int | None = None) -> Executor:
    """The executor of a cluster; every machine must see the comparison's folder under the same path.

    Args:
        text: ``"ray"`` or ``"slurm"``, behind a colon options: see ``RayExecutor`` and ``SlurmExecutor``.
        folder: of the comparison; SLURM's scripts and logs go into ``slurm/`` in it.
        threads: CPU threads of each run, and cores asked for where the text gives no ``cpus``.
        at_once: runs at a time, at least 1; None leaves that to the cluster.

    Raises:
        ConfigError: the name or an option is unknown, a value cannot be used, the package is not installed, or
            there is no such cluster to be reached.
    """
    name, _, options = text.partition(":")
    if name == "local":
        raise ConfigError(
            f"local takes no options, and got {options!r}: --jobs says how many runs at a time, --threads the"
            " cores of each"
        )
    if name not in CLUSTERS:
        raise unknown("cluster", name, ["local", *CLUSTERS])
    pairs = read_pairs(name, options)
    given: dict[str, Any] = read_values(name, pairs, _RAY if name == "ray" else _SLURM)
    if "memory" in given:
        given["memory"] = read_gigabytes(f"{name}:memory", given["memory"])
    given.setdefault("cpus", threads)
    if name == "ray":
        executor = RayExecutor(at_once=at_once, **given)
        executor.reach()
        return executor
    return SlurmExecutor(folder / "slurm", at_once=at_once, **given)


def read_gigabytes(where: str, text: str) -> float:
    """``"16GB"``, ``"512MB"`` or a plain number as GiB.

    Raises:
        ConfigError: it is none of them, or 0.

    >>> read_gigabytes("memory", "16GB"), read_gigabytes("memory", "512MB")
    (16.0, 0.5)
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?) ?(MB|GB|TB)?", text.strip(), re.IGNORECASE)
    size = float(found[1]) * {"MB": 2**-10, "TB": 2.0**10}.get((found[2] or "GB").upper(), 1.0) if found else 0.0
    if not size:
        raise ConfigError(f"{where}={text!r} is no amount of memory: write 16GB or 512MB, above 0")
    return size
