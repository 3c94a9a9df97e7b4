"""Claim: a whole evaluation of 2,000 images of 32 x 32 with a WRN-16-1 takes at most 10 minutes on two cores.

The command's defaults: classification, test-time sums of 4 with 16 copies, FGSM, BIM, MIM and PGD-20 with the
margin beside, the curve over eps, the adaptive attacks on 100 images, noise and a folder as other data, and the
page. Images and weights are random: neither changes how long it takes. ``--images`` makes a shorter run, in
proportion, whose fixed costs weigh more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from lessonplan.data import load
from lessonplan.lab.evaluation import Evaluation, TestTime, evaluate, subject_of
from lessonplan.models import build_model

LIMIT = 600.0
SHAPE = (3, 32, 32)


def main() -> None:
    """Evaluate once, print seconds a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2000)
    images: int = parser.parse_args().images
    share = images / 2000
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2 * images, 32, 32, 3), dtype=np.uint8)
    data = load((x, np.arange(2 * images) % 10), test_fraction=0.5)
    network = build_model("wrn-16-1", shape=SHAPE, num_classes=10, seed=0)
    subject = subject_of(network, data, data.preprocessing, name="wrn-16-1")
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        other.mkdir()
        for i in range(images):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(other / f"{i}.png")
        options = Evaluation.make(
            ttsa=TestTime(k=4, copies=16),
            attacks=("fgsm", "bim", "mim", "pgd"),
            eps="8/255",
            ood=("noise", str(other)),
            curve_limit=max(1, round(share * Evaluation().curve_limit)),
            adaptive_limit=max(1, round(share * Evaluation().adaptive_limit)),
        )
        started, used = time.perf_counter(), time.process_time()
        found = evaluate(subject, options, out=Path(folder) / "out")
        seconds, used = time.perf_counter() - started, time.process_time() - used
    for name, part in found["parts"].items():
        print(f"{name:<16} {part['seconds']:8.1f} s")
    print(f"{'all, page included':<16} {seconds:6.1f} s, {used:.1f} s of processor time, {images} images")
    print(f"at most {share * LIMIT:.0f} s: {'held' if seconds <= share * LIMIT else 'did not hold'}")


if __name__ == "__main__":
    main()
