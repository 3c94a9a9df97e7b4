"""Extras in versions that do not do."""

from __future__ import annotations

import importlib.metadata as metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lessonplan as lp
from lessonplan import extras
from lessonplan.errors import ConfigError
from lessonplan.integrations.packages import need
from lessonplan.lab.elsewhere import load_package
from lessonplan.train.records import records


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch):
    """Let a package be there in another version."""
    real = metadata.version

    def pretend(name: str, version: str) -> None:
        monkeypatch.setattr(metadata, "version", lambda asked: version if asked == name else real(asked))

    return pretend


def test_an_old_version_is_named_with_what_is_needed(old) -> None:
    old("lightning", "1.6.0")
    words = r"lightning 1\.6\.0 is installed, and lessonplan needs lightning>=2\.4: pip install --upgrade .*light"
    with pytest.raises(ConfigError, match=words):
        need("lightning.pytorch", "lightning")


def test_every_way_to_an_extra_asks_for_its_version(old, tmp_path: Path) -> None:
    old("timm", "0.4.12")
    with pytest.raises(ConfigError, match=r"timm 0\.4\.12 is installed"):
        lp.models.build_model("timm:resnet10t", shape=(3, 32, 32), num_classes=2)
    old("transformers", "4.10")
    with pytest.raises(ConfigError, match=r"transformers 4\.10 is installed"):
        lp.models.build_model("transformers:any", shape=(3, 32, 32), num_classes=2)
    old("tensorboard", "1.0")
    with pytest.raises(ConfigError, match=r"tensorboard 1\.0 is installed"):
        records("tensorboard", tmp_path)
    old("pyarrow", "0.1")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"pyarrow 0\.1 is installed"):
        lp.data.load(f"parquet:{tmp_path}")
    old("submitit", "0.1")
    with pytest.raises(ConfigError, match=r"submitit 0\.1 is installed"):
        load_package("submitit", "slurm")


def test_versions_that_do() -> None:
    wanted = Requirement("thing>=2.1")
    assert [extras.fits(wanted, v) for v in ("2.1", "3.0.dev1", "2.0.9", "built-here")] == [
        True,
        True,
        False,
        True,
    ]
    extras.refuse_other_versions("no-such-extra")
