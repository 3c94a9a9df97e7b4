"""Claim: streaming from an image folder is at least as fast as a torchvision-style DataLoader.

3000 JPEG files of 64 to 96 pixels a side, written by this script, resized and cropped to 64 x 64, normalised
and batched by 100; the same number of worker processes, which both sides keep from epoch to epoch. "memory" is
how much this process and its workers grow while an epoch is read.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import lessonplan as lp
from lessonplan.data import Data
from timing import interleaved, ratio, repetitions, show, spread

FILES, CLASSES, SIDE, BATCH = 3000, 10, 64, 100
WORKERS = (1, 2)


def write_folder(root: Path) -> None:
    """Smooth pictures with some noise, so that JPEG has to work as on photographs."""
    rng = np.random.default_rng(0)
    for i in range(FILES):
        folder = root / f"class{i % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        width, height = rng.integers(SIDE, 97, 2).tolist()
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:05d}.jpg", quality=90)


class FolderDataset(Dataset[tuple[Tensor, int]]):
    """What torchvision's ImageFolder does with Resize, CenterCrop, ToTensor and Normalize."""

    def __init__(self, root: Path, mean: Tensor, std: Tensor) -> None:
        self.files = [(f, label) for label, d in enumerate(sorted(root.iterdir())) for f in sorted(d.iterdir())]
        self.mean, self.std = mean.view(3, 1, 1), std.view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        path, label = self.files[i]
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        scale = SIDE / min(image.size)
        wide = (max(SIDE, round(image.width * scale)), max(SIDE, round(image.height * scale)))
        image = image.resize(wide, Image.Resampling.BILINEAR)
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        image = image.crop((left, top, left + SIDE, top + SIDE))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return pixels.sub_(self.mean).div_(self.std), label


def open_folder(root: Path, workers: int) -> Data:
    """All of the folder as training data, streamed."""
    return lp.data.load(
        f"folder:{root}", augment="none", image_size=SIDE, test_fraction=0.0, memory_limit=0, workers=workers
    )


def consume(batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Read an epoch; the number of samples."""
    count = 0
    for x, y in batches:
        assert x.shape[1:] == (3, SIDE, SIDE)
        assert len(x) == len(y)
        count += len(x)
    assert count == FILES
    return count


def memory() -> float:
    """Bytes in use by this process and those below it, shared pages counted once."""
    here = psutil.Process()
    total = 0.0
    for process in (here, *here.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def growth(epoch: Callable[[], object]) -> float:
    """Megabytes by which memory grows during an epoch, looked at every 50 ms."""
    before = peak = memory()
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, memory())
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    epoch()
    over.set()
    watcher.join()
    return (peak - before) / 2**20


def check(data: Data, dataset: FolderDataset) -> None:
    """Both sides deliver the same pixels and labels."""
    some = torch.arange(0, FILES, 97)
    x, y = data.train.fetch(some)
    for place, row in enumerate(data.train.rows[some].tolist()):
        pixels, label = dataset[row]
        torch.testing.assert_close(x[place], pixels, rtol=1e-4, atol=1e-4)
        assert int(y[place]) == label


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 7)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder))
        for workers in WORKERS:
            data = open_folder(Path(folder), workers)
            dataset = FolderDataset(Path(folder), data.mean, data.std)
            check(data, dataset)
            loader = DataLoader(
                dataset, BATCH, shuffle=True, num_workers=workers, prefetch_factor=2, persistent_workers=True
            )

            def ours(data: Data = data) -> int:
                return consume(data.train.batches(torch.randperm(FILES).split(BATCH)))

            def theirs(loader: DataLoader[tuple[Tensor, Tensor]] = loader) -> int:
                return consume(loader)

            times = interleaved({"DataLoader": theirs, "lessonplan": ours}, count)
            grown = {"DataLoader": growth(theirs), "lessonplan": growth(ours)}
            for name, base in (("DataLoader", "DataLoader"), ("lessonplan", "DataLoader")):
                speed = spread([FILES / seconds for seconds in times[name]], digits=0)
                relative = spread(ratio(times, base, name))
                rows.append([name, str(workers), speed, relative, f"{grown[name]:.1f}"])
            data.close()
    show(
        "Reading 3000 JPEG files from a folder",
        ["", "workers", "images/s", "times DataLoader", "memory, MB"],
        rows,
        ["to reach: at least 1.00 times DataLoader; both deliver the same pixels"],
    )


if __name__ == "__main__":
    main()
