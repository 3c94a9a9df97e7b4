"""``python -m lessonplan``."""

from lessonplan.cli import main

main()
