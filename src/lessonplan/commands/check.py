"""``lessonplan check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Check:
    """Options of ``lessonplan check``."""

    part: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PART")]
    """a mix, filter, selector, order or network of your own: module:Class or FILE.py:Class, options after another
    colon"""

    def run(self) -> int:
        """Try it, a line a check; 1 if one does not hold."""
        from lessonplan.lab.checking import check_part

        findings = check_part(self.part)
        for finding in findings:
            print(f"{'no' if finding.problem else 'ok':3} {finding.check}")
            if finding.problem:
                print(f"    {finding.problem}")
        wrong = sum(bool(finding.problem) for finding in findings)
        print(f"{len(findings) - wrong} of {len(findings)} hold")
        return 1 if wrong else 0
