"""Packages that are extras: which versions of them do."""

from __future__ import annotations

import importlib.metadata as metadata
from functools import lru_cache

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from lessonplan.errors import ConfigError

_OWN = "lessonplan"


@lru_cache(maxsize=1)
def declared() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What the package needs, and its extras for users; nothing where it was not installed."""
    try:
        own = metadata.distribution(_OWN)
    except metadata.PackageNotFoundError:
        return [], {}
    core: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {
        name: [] for name in own.metadata.get_all("Provides-Extra") or [] if not name.startswith("dev")
    }
    for requirement in map(Requirement, own.requires or []):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            core.append(requirement)
            continue
        for name, listed in extras.items():
            if marker.evaluate({"extra": name}):
                listed.append(requirement)
    return core, extras


def fits(requirement: Requirement, version: str) -> bool:
    """Whether a version that is installed does; one that cannot be read (of a build of one's own) does."""
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def refuse_other_versions(extra: str) -> None:
    """Refuse an extra's package whose version does not do, before it fails in words of its own.

    What is not installed is for its import to say.

    Raises:
        ConfigError: a package is there in another version.
    """
    for requirement in declared()[1].get(extra, []):
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        if not fits(requirement, found):
            raise ConfigError(
                f"{requirement.name} {found} is installed, and lessonplan needs {requirement.name}"
                f"{requirement.specifier}: pip install --upgrade 'lessonplan[{extra}]'"
            )
