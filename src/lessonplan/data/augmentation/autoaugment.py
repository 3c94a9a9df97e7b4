"""The pairs of operations that AutoAugment learned (Cubuk et al., arXiv:1805.09501, tables 7 to 9)."""

from __future__ import annotations

from lessonplan.data.augmentation.operations import OPERATIONS

Step = tuple[int, int, float]
"""An operation by its place in ``OPERATIONS``, its level from 0 to 9, its probability."""

_LEARNED = {
    "imagenet": """
        posterize 0.4 8 + rotate 0.6 9
        solarize 0.6 5 + autocontrast 0.6
        equalize 0.8 + equalize 0.6
        posterize 0.6 7 + posterize 0.6 6
        equalize 0.4 + solarize 0.2 4
        equalize 0.4 + rotate 0.8 8
        solarize 0.6 3 + equalize 0.6
        posterize 0.8 5 + equalize 1
        rotate 0.2 3 + solarize 0.6 8
        equalize 0.6 + posterize 0.4 6
        rotate 0.8 8 + saturation 0.4 0
        rotate 0.4 9 + equalize 0.6
        equalize 0 + equalize 0.8
        invert 0.6 + equalize 1
        saturation 0.6 4 + contrast 1 8
        rotate 0.8 8 + saturation 1 2
        saturation 0.8 8 + solarize 0.8 7
        sharpness 0.4 7 + invert 0.6
        shear-x 0.6 5 + equalize 1
        saturation 0.4 0 + equalize 0.6
        equalize 0.4 + solarize 0.2 4
        solarize 0.6 5 + autocontrast 0.6
        invert 0.6 + equalize 1
        saturation 0.6 4 + contrast 1 8
        equalize 0.8 + equalize 0.6
    """,
    "cifar10": """
        invert 0.1 + contrast 0.2 6
        rotate 0.7 2 + translate-x 0.3 9
        sharpness 0.8 1 + sharpness 0.9 3
        shear-y 0.5 8 + translate-y 0.7 9
        autocontrast 0.5 + equalize 0.9
        shear-y 0.2 7 + posterize 0.3 7
        saturation 0.4 3 + brightness 0.6 7
        sharpness 0.3 9 + brightness 0.7 9
        equalize 0.6 + equalize 0.5
        contrast 0.6 7 + sharpness 0.6 5
        saturation 0.7 7 + translate-x 0.5 8
        equalize 0.3 + autocontrast 0.4
        translate-y 0.4 3 + sharpness 0.2 6
        brightness 0.9 6 + saturation 0.2 8
        solarize 0.5 2 + invert 0
        equalize 0.2 + autocontrast 0.6
        equalize 0.2 + equalize 0.6
        saturation 0.9 9 + equalize 0.6
        autocontrast 0.8 + solarize 0.2 8
        brightness 0.1 3 + saturation 0.7 0
        solarize 0.4 5 + autocontrast 0.9
        translate-y 0.9 9 + translate-y 0.7 9
        autocontrast 0.9 + solarize 0.8 3
        equalize 0.8 + invert 0.1
        translate-y 0.7 9 + autocontrast 0.9
    """,
    "svhn": """
        shear-x 0.9 4 + invert 0.2
        shear-y 0.9 8 + invert 0.7
        equalize 0.6 + solarize 0.6 6
        invert 0.9 + equalize 0.6
        equalize 0.6 + rotate 0.9 3
        shear-x 0.9 4 + autocontrast 0.8
        shear-y 0.9 8 + invert 0.4
        shear-y 0.9 5 + solarize 0.2 6
        invert 0.9 + autocontrast 0.8
        equalize 0.6 + rotate 0.9 3
        shear-x 0.9 4 + solarize 0.3 3
        shear-y 0.8 8 + invert 0.7
        equalize 0.9 + translate-y 0.6 6
        invert 0.9 + equalize 0.6
        contrast 0.3 3 + rotate 0.8 4
        invert 0.8 + translate-y 0 2
        shear-y 0.7 6 + solarize 0.4 8
        invert 0.6 + rotate 0.8 4
        shear-y 0.3 7 + translate-x 0.9 3
        shear-x 0.1 6 + invert 0.6
        solarize 0.7 2 + translate-y 0.6 7
        shear-y 0.8 4 + invert 0.8
        shear-x 0.7 9 + translate-y 0.8 3
        shear-y 0.8 5 + autocontrast 0.7
        shear-x 0.7 2 + invert 0.1
    """,
}


def _step(words: str) -> Step:
    name, probability, *level = words.split()
    return OPERATIONS.index(name), int(level[0]) if level else 0, float(probability)


POLICIES: dict[str, list[tuple[Step, Step]]] = {
    data: [(_step(first), _step(second)) for first, _, second in (row.partition(" + ") for row in rows)]
    for data, rows in (
        (data, [line for line in text.splitlines() if line.strip()]) for data, text in _LEARNED.items()
    )
}
"""For each data set its pairs: operation, probability and level of the first step and of the second."""
