"""Claim: changes of small pictures cost less than other libraries', those of large ones at most twice as much.

Batches of 8-bit pictures on one processor, to 8-bit pictures again. torchvision's transforms draw once a call, so
they go over the pictures one by one, as in a data set; Kornia's draw for each picture of a batch, of floats. Both
take part where they are installed. Moves are bilinear everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lessonplan.data import Augment
from lessonplan.models.beside_torchvision import import_beside_torchvision
from timing import interleaved, ratio, repetitions, show, spread

WORDS = (
    "flip,crop:4",
    "rotate:15,translate:0.1,zoom:0.1",
    "resized-crop:0.3",
    "jitter:0.4/0.4/0.4/0.1",
    "trivial",
    "rand:2/9",
)
Change = Callable[[Tensor], Tensor]


def by_torchvision() -> dict[str, Change]:
    """The same by torchvision, picture by picture."""
    try:
        v2 = import_beside_torchvision("torchvision.transforms.v2")
    except ImportError:
        return {}
    mode = v2.InterpolationMode.BILINEAR

    def each(transform: Change) -> Change:
        return lambda x: torch.stack([transform(one) for one in x])

    return {
        "resized-crop:0.3": lambda x: torch.stack(
            [v2.RandomResizedCrop(tuple(x.shape[2:]), scale=(0.3, 1), antialias=False)(one) for one in x]
        ),
        "rotate:15,translate:0.1,zoom:0.1": each(
            v2.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation=mode)
        ),
        "jitter:0.4/0.4/0.4/0.1": each(v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
        "trivial": each(v2.TrivialAugmentWide(interpolation=mode)),
        "rand:2/9": each(v2.RandAugment(interpolation=mode)),
    }


def by_kornia() -> dict[str, Change]:
    """The same by Kornia, in floats."""
    try:
        import kornia.augmentation as ka
    except ImportError:
        return {}

    def floats(*transforms: Change) -> Change:
        chain = ka.AugmentationSequential(*transforms, data_keys=["input"])
        return lambda x: (chain(x.float() / 255) * 255).round().to(torch.uint8)

    return {
        "rotate:15,translate:0.1,zoom:0.1": floats(
            ka.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), p=1.0)
        ),
        "jitter:0.4/0.4/0.4/0.1": floats(ka.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0)),
    }


def main() -> None:
    """Measure both sizes, and print a table for each."""
    count = repetitions(__doc__, 7)
    theirs = {"torchvision": by_torchvision(), "Kornia": by_kornia()}
    for shape in ((256, 3, 32, 32), (32, 3, 224, 224)):
        x = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        places = torch.arange(len(x))
        rows = []
        for text in WORDS:
            augment = Augment.parse(text)
            sides = {"lessonplan": partial(augment, x, places, seed=0, epoch=0)}
            sides |= {name: partial(known[text], x) for name, known in theirs.items() if text in known}
            times = interleaved(sides, count)
            others = [
                f"{spread(times[n], 1e3, 1)}, {spread(ratio(times, n, 'lessonplan'))}" if n in sides else ""
                for n in theirs
            ]
            rows.append([text, spread(times["lessonplan"], 1e3, 1), *others])
        columns = ["", "lessonplan, ms", *(f"{name}, ms, of ours" for name in theirs)]
        show(f"Changing {shape} pictures", columns, rows)


if __name__ == "__main__":
    main()
