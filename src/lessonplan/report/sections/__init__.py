"""What the page of an evaluation shows of each part: ``NAME.py`` shows the part of that name."""
