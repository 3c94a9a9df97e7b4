"""Ranks go on where they stopped, with the same weights bit for bit; other numbers of ranks are told so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import lessonplan as lp
from ranks.cases import resumed
from ranks.together import on_ranks


@pytest.mark.slow
def test_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = on_ranks(resumed, str(tmp_path / "whole"), None)
    assert whole[0] == whole[1], "ranks end alike"
    out = str(tmp_path / "stopped")
    assert on_ranks(resumed, out, 11) == [None, None]
    assert on_ranks(resumed, out, 26) == [None, None]
    assert yaml.safe_load((tmp_path / "stopped" / "config.yaml").read_text())["ranks"] == 2
    with pytest.raises(lp.errors.ConfigError, match="begun by a group of 2 ranks, and now there is one process"):
        resumed(out, None)
    *_, refused = on_ranks(resumed, out, None, count=3, fails=True)
    assert "begun by a group of 2 ranks, and now there is a group of 3 ranks" in str(refused)
    assert on_ranks(resumed, out, None) == whole
    # A finished run is anybody's.
    assert resumed(out, None) == whole[0]
    assert on_ranks(resumed, out, None) == whole


@pytest.mark.slow
def test_one_process_is_not_taken_over_by_two(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert resumed(out, 11) is None
    assert "ranks" not in yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    for refused in on_ranks(resumed, out, None, fails=True):
        assert "begun by one process, and now there is a group of 2 ranks" in str(refused)
