"""These tests run on a pretended accelerator, in a process of their own: ``make test-accelerator``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Once the device is there, ``auto`` means it: other tests must not meet it."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.accelerator)
            if config.option.markexpr != "accelerator":
                item.add_marker(pytest.mark.skip(reason="needs a process of its own: make test-accelerator"))


@pytest.fixture(scope="session", autouse=True)
def _device() -> None:
    import pretended

    pretended.install()


@pytest.fixture
def device() -> str:
    """The name of the device."""
    import pretended

    return pretended.NAME
