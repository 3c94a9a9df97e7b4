"""``lessonplan export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat, Folder
from lessonplan.progress import step


@dataclass(frozen=True)
class Export:
    """Options of ``lessonplan export``."""

    trained: Annotated[Folder, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of a finished run, or its URL"""
    out: Path = Path("model.onnx")
    """ONNX file to write; takes batches of any size, gives logits and probabilities; needs lessonplan[onnx]"""
    preprocessing: bool = False
    """the file takes uint8 pixels of the run's size and normalises them; normalised float32 if not given"""
    opset: int | None = None
    """version of ONNX's operators; PyTorch's default if not given"""
    force: bool = False
    """replace a file that is there"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Write the file, say what it takes."""
        from lessonplan.train import load

        classifier = load(self.trained)
        with step("writing the ONNX file"):
            takes = classifier.export(
                self.out, preprocessing=self.preprocessing, opset=self.opset, force=self.force
            )
        names = list(classifier.class_names)
        line = f"{self.out}: takes {takes}; gives logits and probabilities of {len(names)} classes"
        return Answer({"file": self.out, "takes": takes, "class_names": names}, lambda: print(line))
