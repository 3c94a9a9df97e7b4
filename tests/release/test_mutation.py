"""The intervals in the table of ``benchmarks/mutation.py``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest


def _script() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "mutation_table.py"
    spec = importlib.util.spec_from_file_location("mutation_table_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLE = _script()


@pytest.mark.parametrize(("survived", "drawn"), [(0, 40), (3, 40), (17, 217), (40, 40)])
def test_the_interval_is_wilsons(survived: int, drawn: int) -> None:
    expected = binomtest(survived, drawn).proportion_ci(0.95, "wilson")
    assert TABLE.wilson(survived / drawn, drawn) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_packages_count_by_their_faults() -> None:
    """2 of 10 and 0 of 40, of packages of 900 and 100: 18% with the variance of .81 x .2 x .8 / 10."""
    drawn = 0.18 * 0.82 / (0.81 * 0.16 / 10)
    low, high = TABLE.wilson(0.18, drawn)
    assert TABLE.share_of([(900, 10, 2), (100, 40, 0), (50, 0, 0)]) == f"18.0% ({low:.1%} to {high:.1%})"


def test_a_package_drawn_alike_has_wilsons_interval_of_its_own() -> None:
    low, high = binomtest(3, 40).proportion_ci(0.95, "wilson")
    assert TABLE.share_of([(500, 40, 3)]) == f"7.5% ({low:.1%} to {high:.1%})"
