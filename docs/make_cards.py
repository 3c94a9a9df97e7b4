"""Draw the pictures of the cards, ``docs/pictures/cards/``: ``python docs/make_cards.py [CARD ...]``, or all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from made import judged, looks, mixed, ordered, selected, trained

CARDS: dict[str, Callable[[Path], None]] = {
    **mixed.PICTURES,
    **selected.PICTURES,
    **ordered.PICTURES,
    **trained.PICTURES,
    **judged.PICTURES,
}
"""What draws the picture of each card, into a folder."""


def main() -> None:
    """Draw those that are named, or all."""
    for name in sys.argv[1:] or CARDS:
        CARDS[name](looks.FOLDER)
        print(name)


if __name__ == "__main__":
    main()
