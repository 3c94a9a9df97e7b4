"""What CONTRIBUTING shows works: its mix passes the public harness, and the places that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

from lessonplan.lab.checking import check_part

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
IMPORTS = """from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.mix import Mix

"""


def test_its_mix_keeps_what_ours_keep(tmp_path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "swap.py").write_text(IMPORTS + code)
    findings = check_part(f"{tmp_path / 'swap.py'}:Swap:share=0.3")
    assert len(findings) == 7
    assert [finding.problem for finding in findings] == [""] * 7


def test_its_places_are_there() -> None:
    named = re.findall(r"`((?:tests/)?[\w/]+/\w+\.py)`", TEXT)
    assert len(named) >= 8
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "src" / "lessonplan" / name).exists(), name
