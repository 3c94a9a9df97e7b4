"""``lessonplan check``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat, Folder, in_folder
from lessonplan.data.kinds import KINDS
from lessonplan.errors import ConfigError, visible


@dataclass(frozen=True)
class Check:
    """Options of ``lessonplan check``."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA|PART")]
    """data, written as --data of train (folder:photos, digits, a path); or a mix, filter, selector, order or
    network of your own: module:Class or FILE.py:Class, options after another colon"""
    out: Folder | None = None
    """folder for a page with the pictures (index.html) and all numbers (data.json), or a URL such as s3://bucket/look"""
    test: str | None = None
    """test data of their own, written like the data"""
    model: str | None = None
    """network whose features labels are judged by, with --weights"""
    weights: str | None = None
    """its weights: pretrained, a file, or a run's folder"""
    classes: str | None = None
    """classes that are going to be used: how many (the first ones), or their names separated by commas"""
    per_class: int | None = None
    """labels of each class that are going to be used; all if not given"""
    val_fraction: float = 0.2
    """share of the labels that is going to judge"""
    image_size: int | None = None
    """side in pixels that images are resized and cropped to"""
    workers: int = 2
    """threads that decode"""
    seed: int = 0
    """of the folds in which labels are judged"""
    device: str = "auto"
    """where features are computed"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Look, a line a finding; 1 if a check of a part does not hold, or parts of the data overlap."""
        if not _is_data(self.what):
            return self._part()
        return in_folder(self.out, self._data) if self.out is not None else self._data(None)

    def _data(self, out: Path | None) -> Answer:
        from lessonplan.lab.data_check import check_data
        from lessonplan.report.data_check import print_data_check
        from lessonplan.report.data_words import findings

        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _NO_OPTION}
        options["out"] = out
        found = check_data(self.what, **options)
        page = out / "index.html" if out is not None else None

        def show() -> None:
            print_data_check(found.record)
            if page is not None:
                print(f"page: {page}")

        told = [{"level": level, "text": text} for level, text in findings(found.record)]
        return Answer({"page": page, "findings": told, **found.record}, show, 1 if found.leaks else 0)

    def _part(self) -> Answer:
        given = [
            f"--{f.name.replace('_', '-')}"
            for f in dataclasses.fields(self)
            if f.name not in _NO_OPTION and getattr(self, f.name) != f.default
        ]
        if given:
            raise ConfigError(
                f"{', '.join(given)} is for data, and {self.what} is a part of your own: give the part alone, or"
                " data such as folder:PATH"
            )
        from lessonplan.lab.checking import check_part

        findings = check_part(self.what)
        wrong = sum(bool(finding.problem) for finding in findings)

        def show() -> None:
            for finding in findings:
                print(f"{'no' if finding.problem else 'ok':3} {finding.check}")
                if finding.problem:
                    print(f"    {visible(finding.problem)}")
            print(f"{len(findings) - wrong} of {len(findings)} hold")

        checks = [{"check": f.check, "holds": not f.problem, "problem": f.problem or None} for f in findings]
        return Answer({"part": self.what, "checks": checks}, show, 1 if wrong else 0)


_NO_OPTION = ("what", "talk")


def _is_data(text: str) -> bool:
    """Whether a text names data: a part of one's own is always written with a colon behind a module or file.

    >>> _is_data("folder:photos"), _is_data("digits"), _is_data("mixes.py:Mine"), _is_data("photos")
    (True, True, False, True)
    """
    home, colon, _ = text.partition(":")
    return home in KINDS or Path(text).expanduser().is_dir() or (not colon and not home.endswith(".py"))
