"""Tests with packages that are not among those of development (``make test-packages``).

A test names its packages, ``@pytest.mark.packages("wandb")``. It is skipped where one of them is not installed,
and fails there where all of them should be: under ``make test-packages``, which sets ``LESSONPLAN_PACKAGES=all``.
"""

from __future__ import annotations

import importlib
import os

import pytest

# read when they are imported; neither may ask the net
os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["NO_ALBUMENTATIONS_UPDATE"] = "true"


def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = [name for marker in item.iter_markers("packages") for name in marker.args]
    assert wanted, f"{item.nodeid} names no packages"
    for name in wanted:
        try:
            importlib.import_module(name)
        except ImportError as error:
            if os.environ.get("LESSONPLAN_PACKAGES") == "all":
                raise
            pytest.skip(f"{name} cannot be imported ({error}): make test-packages")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, fetched or asked for, and no store or project of the user's is written into."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")) and name != "MLFLOW_DISABLE_TELEMETRY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
