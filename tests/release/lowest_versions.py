"""Prints the lowest declared version of each core dependency, for pip (``make test-lowest``)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from isolated import core_requirements

if __name__ == "__main__":
    for requirement in core_requirements():
        [lowest] = [bound for bound in requirement.specifier if bound.operator == ">="]
        if requirement.name != "torch":  # see the Makefile
            print(f"{requirement.name}=={lowest.version}")
