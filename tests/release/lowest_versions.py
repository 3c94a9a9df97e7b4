"""Prints the lowest declared versions of the core dependencies and of extras, for pip (``make test-lowest``)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from isolated import core_requirements, extra_requirements

if __name__ == "__main__":
    extras = [requirement for name in sys.argv[1:] for requirement in extra_requirements(name)]
    for requirement in [*core_requirements(), *extras]:
        [lowest] = [bound for bound in requirement.specifier if bound.operator == ">="]
        if requirement.name != "torch":  # see the Makefile
            print(f"{requirement.name}=={lowest.version}")
