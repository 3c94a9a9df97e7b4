"""What an evaluation does: ``NAME.py`` does the part of that name.

``run(work)`` returns what ``evaluation.json`` holds of it, its numbers by name under ``"measures"`` and pictures
under ``"pictures"``; ``check(subject, options)``, where there is one, finds what
cannot be done before anything is.
"""
