"""Claim: our default line is as good as logistic regression on frozen features and as a usual fine-tuning script.

Photographs in a folder with ``train/`` and ``test/``, ``--per-class`` of them (or all), tf_efficientnet_lite0 with
the ImageNet weights of ``--weights FILE``. Each seed draws its own training pictures, the same for all three:

- ours: ``lessonplan train --per-class N --image-size 128 --model timm:tf_efficientnet_lite0 --weights FILE``, with
  ``--budget`` where ``--epochs`` is not the default's 20, nothing else chosen;
- logistic regression (scikit-learn, C by five folds) on timm's features of the pictures as they are;
- a script of thirty lines, timm and PyTorch alone, with the settings that such scripts have: AdamW, a learning
  rate that falls by a cosine, random crops of varying size, flips, batches of 32, as many epochs as ours.

``--part validation`` reads the validation part in place of the test part, for choosing. ``--part fold`` trains on
four fifths of the training pictures and judges the fifth of the seed (0 to 4): five seeds judge every one of them
once, many more than a test part has, which stays unread. ``--rates`` are learning rates for the script; each is a
row. Every row is written to ``--out`` as soon as it is there, and taken from it.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lessonplan as lp
from lessonplan.models.beside_torchvision import import_beside_torchvision

MODEL, MEAN = "tf_efficientnet_lite0", (0.5, 0.5, 0.5)
FOLDS = 5
CROP = 0.875  # share of a resized picture that the weights were judged on
Pictures = list[tuple[Path, int]]


def drawn(photos: Path, part: str, per_class: int | None, seed: int) -> tuple[Pictures, Pictures]:
    """The training pictures that ``lessonplan train`` draws with this seed, and the part that judges."""
    classes = sorted(path.name for path in (photos / "train").iterdir() if path.is_dir())
    data = lp.data.load(
        f"folder:{photos}", per_class=per_class, seed=seed, image_size=8, memory_limit=0, workers=0
    )
    names = data.train.file_names(torch.arange(len(data.train)))
    assert names is not None
    train = [(photos / name if (photos / name).exists() else photos / "train" / name) for name in names]
    judged = [(path, c) for c, name in enumerate(classes) for path in sorted((photos / part / name).iterdir())]
    return [(path, classes.index(path.parent.name)) for path in train], judged


def fold(photos: Path, made: Path, number: int) -> Path:
    """A folder like ``photos``, in ``made``: a fifth of its training pictures are the test, the others train."""
    shuffled = random.Random(2026)
    for kind in sorted(path for path in (photos / "train").iterdir() if path.is_dir()):
        pictures = sorted(kind.iterdir())
        shuffled.shuffle(pictures)
        for place, picture in enumerate(pictures):
            folder = made / ("test" if place % FOLDS == number else "train") / kind.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / picture.name).symlink_to(picture.resolve())
    if (photos / "validation").is_dir():
        (made / "validation").symlink_to((photos / "validation").resolve())
    return made


def network(weights: str, classes: int) -> torch.nn.Module:
    """timm's network with the file's weights, which are in timm's order under other names, and a new head."""
    timm = import_beside_torchvision("timm")
    model = timm.create_model(MODEL, num_classes=1000)
    state = torch.load(weights, weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    model.reset_classifier(classes)
    return model  # type: ignore[no-any-return]


def pixels(pictures: Pictures, transform: Callable[[Image.Image], torch.Tensor]) -> torch.Tensor:
    return torch.stack([transform(Image.open(path).convert("RGB")) for path, _ in pictures])


def labels(pictures: Pictures) -> torch.Tensor:
    return torch.tensor([label for _, label in pictures])


def as_they_are(size: int) -> Callable[[Image.Image], torch.Tensor]:
    data = import_beside_torchvision("timm.data")
    return data.create_transform((3, size, size), crop_pct=CROP, interpolation="bicubic", mean=MEAN, std=MEAN)  # type: ignore[no-any-return]


def by_logistic_regression(train: Pictures, test: Pictures, weights: str, size: int) -> float:
    """Accuracy on ``test``."""
    model = network(weights, 0).eval()
    with torch.no_grad():
        made = [
            torch.cat([model(x) for x in pixels(p, as_they_are(size)).split(64)]).numpy() for p in (train, test)
        ]
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(line, {"logisticregression__C": np.logspace(-4, 2, 7)}, cv=5)
    return float(search.fit(made[0], labels(train)).score(made[1], labels(test)))


def by_script(
    train: Pictures, test: Pictures, weights: str, size: int, seed: int, epochs: int, lr: float
) -> float:
    """Accuracy on ``test`` of a fine-tuned network."""
    data = import_beside_torchvision("timm.data")
    torch.manual_seed(seed)
    model = network(weights, len(set(labels(train).tolist())))
    change = data.create_transform((3, size, size), is_training=True, scale=(0.35, 1.0), color_jitter=0.0,
                                   interpolation="bicubic", mean=MEAN, std=MEAN)  # fmt: skip
    pictures, y = [Image.open(path).convert("RGB") for path, _ in train], labels(train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    steps = epochs * math.ceil(len(train) / 32)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        for at in torch.randperm(len(train)).split(32):
            if len(at) == 1:
                continue  # batch norm cannot
            x = torch.stack([change(pictures[i]) for i in at.tolist()])
            loss = torch.nn.functional.cross_entropy(model(x), y[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(x) for x in pixels(test, as_they_are(size)).split(64)])
    return float((logits.argmax(1) == labels(test)).float().mean())


def by_us(photos: Path, part: str, options: argparse.Namespace, seed: int) -> float:
    """Accuracy on ``part`` of the network that the command line ends with."""
    with tempfile.TemporaryDirectory() as made:
        data = photos
        if part == "validation":  # it stands in for the test part, which is not read
            data = Path(made) / "photos"
            data.mkdir()
            for name, of in (("train", "train"), ("test", part)):
                (data / name).symlink_to((photos / of).resolve())
        line = ["train", "--data", f"folder:{data}", "--seed", str(seed), "--image-size", str(options.size),
                "--model", f"timm:{MODEL}", "--weights", options.weights, "--out", f"{made}/run"]  # fmt: skip
        line += ["--per-class", str(options.per_class)] if options.per_class else []
        line += ["--budget", f"{options.epochs}ep"] if options.epochs != 20 else []
        line += options.ours.split()
        subprocess.run([sys.executable, "-m", "lessonplan", *line], check=True, capture_output=True)
        return float(json.loads(Path(made, "run", "result.json").read_text())["test"]["accuracy"])


def ways(photos: Path, options: argparse.Namespace, seed: int) -> dict[str, Callable[[], float]]:
    """The rows of a seed: each gives an accuracy when it is called."""
    part = "validation" if options.part == "validation" else "test"
    train, test = drawn(photos, part, options.per_class, seed)
    given = (train, test, options.weights, options.size)
    rows: dict[str, Callable[[], float]] = {}
    if "ours" in options.methods:
        rows[f"ours {options.ours}".strip()] = partial(by_us, photos, part, options, seed)
    if "logreg" in options.methods:
        rows["logistic regression"] = partial(by_logistic_regression, *given)
    for lr in options.rates if "script" in options.methods else []:
        rows[f"script, lr {lr:g}"] = partial(by_script, *given, seed=seed, epochs=options.epochs, lr=lr)
    return rows


def main() -> None:
    """Do what is missing of the table, and print it with paired differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--per-class", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rates", type=float, nargs="*", default=[3e-4, 1e-3])
    parser.add_argument("--part", choices=["test", "validation", "fold"], default="test")
    parser.add_argument("--methods", nargs="+", default=["ours", "logreg", "script"])
    parser.add_argument("--ours", default="", help="more options of our line, while choosing")
    parser.add_argument("--out", type=Path, required=True, help="CSV of all rows")
    options = parser.parse_args()
    if options.part == "fold" and not set(options.seeds) <= set(range(FOLDS)):
        parser.error(f"--part fold: the seeds are folds, 0 to {FOLDS - 1}")
    torch.set_num_threads(1)
    known: dict[tuple[str, int], float] = {}
    if options.out.exists():
        rows = csv.DictReader(options.out.open())
        known = {(row["method"], int(row["seed"])): float(row["accuracy"]) for row in rows}
    else:
        options.out.write_text("method,seed,accuracy\n")
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as made:
            photos = fold(options.photos, Path(made), seed) if options.part == "fold" else options.photos
            for name, way in ways(photos, options, seed).items():
                if (name, seed) not in known:
                    known[name, seed] = way()
                    with options.out.open("a") as table:
                        csv.writer(table).writerow([name, seed, f"{known[name, seed]:.5f}"])
    names = list(dict.fromkeys(name for name, _ in known))
    first = next((name for name in names if name.startswith("ours")), names[0])
    for name in names:
        values = 100 * np.array([known[name, s] for s in options.seeds if (name, s) in known])
        pairs = [s for s in options.seeds if (name, s) in known and (first, s) in known]
        gaps = 100 * np.array([known[first, s] - known[name, s] for s in pairs])
        text = f"{name:34s} {values.mean():6.2f}  ({', '.join(f'{v:.1f}' for v in values)})"
        if name != first and len(gaps) > 1:
            half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))
            text += f"  ours better by {gaps.mean():+.2f} ({gaps.mean() - half:+.2f} to {gaps.mean() + half:+.2f})"
        print(text)


if __name__ == "__main__":
    main()
