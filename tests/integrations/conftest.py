"""The real packages; where torchvision is another build's than torch, it is made importable first."""

from __future__ import annotations

import contextlib
import importlib.util

import pytest

from lessonplan.models.beside_torchvision import import_beside_torchvision

with contextlib.suppress(ImportError):
    import_beside_torchvision("torchvision")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lightning's own kinds of warnings stay in the process that tests.

    xdist hands warnings on to the process that started it, which would have to import Lightning for their classes,
    and there nobody has made torchvision importable.
    """
    if importlib.util.find_spec("lightning") is None:
        return
    kinds = ("warnings.PossibleUserWarning", "rank_zero.LightningDeprecationWarning")
    for item in items:
        if "lightning" in item.nodeid or "loops" in item.nodeid:
            for kind in kinds:
                item.add_marker(pytest.mark.filterwarnings(f"ignore::lightning.fabric.utilities.{kind}"))
