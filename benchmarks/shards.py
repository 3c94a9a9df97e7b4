"""Claims: shards are trained from at 0.9 of memory's speed or more, and memory is flat over a million samples.

Pictures are uncompressed (PPM, 58 x 57 pixels, 10 kB), so that decoding is little more than a copy; all differ.

speed: epochs of a small network over 2,048 pictures that lie in memory, in tar shards and in a parquet file, in
turn; one worker process reads ahead. "update alone" is an epoch's updates with one batch that is there already.

cold: random batches of shards that the system's cache was told to forget, with the read-ahead that is asked for
before a batch is read, and without.

million: so many samples (--samples) in 100 tar shards, 12 GB below --folder, removed afterwards: indexing, opening
again, and one epoch of lessonplan.fit over all of them, with the memory of this process and its worker.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.nn import functional

import lessonplan as lp
from lessonplan.data import Data
from lessonplan.data.shards.files import File
from lessonplan.train.callbacks import Callback
from lessonplan.train.trainer import Trainer
from timing import interleaved, ratio, show, spread

HEIGHT, WIDTH, CLASSES, BATCH = 57, 58, 10, 128
HEAD = b"P6\n%d %d\n255\n" % (WIDTH, HEIGHT)
SIZE = len(HEAD) + 3 * HEIGHT * WIDTH
FEW, FEW_SHARDS, SHARDS = 8192, 8, 100
COLD = 12  # batches
PARTS = ("speed", "cold", "million")


def blocks(each: int) -> tuple[np.ndarray, int]:
    """A tar file of so many samples as rows of bytes, one for each sample, and where the pixels begin in a row."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(each):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in (("ppm", HEAD + rng.bytes(SIZE - len(HEAD))), ("cls", b"%d" % (i % CLASSES))):
                member = tarfile.TarInfo(f"{i:06d}.{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            end = tar.offset
        rows.append(np.frombuffer(out.getvalue()[:end], dtype=np.uint8))
    return np.stack(rows), tarfile.BLOCKSIZE + len(HEAD)


def write_shards(folder: Path, each: int, shards: int) -> None:
    """Tar files whose samples all differ: the first pixels of each are its number."""
    folder.mkdir(parents=True)
    content, start = blocks(each)
    for shard in range(shards):
        numbers = np.arange(shard * each, (shard + 1) * each, dtype="<u8")
        content[:, start : start + 8] = numbers.view(np.uint8).reshape(each, 8)
        with (folder / f"shard-{shard:04d}.tar").open("wb") as file:
            file.write(content.data)
            file.write(bytes(2 * tarfile.BLOCKSIZE))


def write_parquet(folder: Path, shards: Path) -> None:
    """The same samples, without compression, in row groups of 256."""
    images, labels = [], []
    for path in sorted(shards.iterdir()):
        with tarfile.open(path) as tar:
            members = [(member.name, tar.extractfile(member)) for member in tar]
            images += [file.read() for name, file in members if file is not None and name.endswith("ppm")]
            labels += [int(file.read()) for name, file in members if file is not None and name.endswith("cls")]
    folder.mkdir()
    column = [{"bytes": image, "path": None} for image in images]
    pq.write_table(
        pa.table({"image": column, "label": labels}),
        folder / "part-0.parquet",
        compression="none",
        use_dictionary=False,
        row_group_size=256,
    )


def opened(spec: str, in_memory: bool = False, workers: int = 1) -> Data:
    """All of a set to train on."""
    limit = 2**30 if in_memory else 0
    return lp.data.load(spec, memory_limit=limit, test_fraction=0.0, augment="none", workers=workers)


def network() -> nn.Module:
    """Some 4 million multiplications a sample: small beside what pictures are trained with."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 32, 3, 2)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))


class Epochs:
    """Epochs of one network over data in the same orders."""

    def __init__(self) -> None:
        self.network, self.generator = network(), torch.Generator().manual_seed(0)
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.01)

    def update(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Train on a batch."""
        self.optimiser.zero_grad()
        functional.cross_entropy(self.network(x), y).backward()
        self.optimiser.step()

    def of(self, data: Data) -> None:
        """One epoch."""
        count = 0
        for x, y in data.train.batches(torch.randperm(len(data.train), generator=self.generator).split(BATCH)):
            self.update(x, y)
            count += len(y)
        assert count == len(data.train)


def speed(folder: Path, count: int) -> None:
    """Epochs from memory, tar and parquet in turn."""
    write_shards(folder / "few", FEW // FEW_SHARDS, FEW_SHARDS)
    write_parquet(folder / "parquet", folder / "few")
    tar, parquet = (
        f"tar:{folder}/few/shard-{{0000..{FEW_SHARDS - 1:04d}}}.tar",
        f"parquet:{folder}/parquet/*.parquet",
    )
    data = {"memory": opened(tar, in_memory=True), "tar": opened(tar), "parquet": opened(parquet)}
    every = torch.arange(FEW)
    for one in data.values():
        assert torch.equal(one.train.raw(every), data["memory"].train.raw(every))
    x, y = data["memory"].train.fetch(every[:BATCH])
    epochs = Epochs()

    def alone() -> None:
        for _ in range(FEW // BATCH):
            epochs.update(x, y)

    spent: dict[str, list[float]] = {name: [] for name in (*data, "update alone")}

    def counted(name: str, side: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            began = time.process_time()
            side()
            spent[name].append((time.process_time() - began) / FEW)

        return run

    sides: dict[str, Callable[[], object]] = {name: lambda one=one: epochs.of(one) for name, one in data.items()}
    sides["update alone"] = alone
    times = interleaved({name: counted(name, side) for name, side in sides.items()}, count)
    spent = {name: seconds[1:] for name, seconds in spent.items()}  # the first was to warm up
    began = time.process_time()
    data["tar"].train.raw(every)
    worker = (time.process_time() - began) / FEW
    rows = [
        [
            name,
            spread([FEW / t for t in times[name]], digits=0),
            spread(ratio(times, "memory", name)),
            spread([1e6 * s for s in spent[name]], digits=0),
            spread(ratio(spent, "memory", name)),
        ]
        for name in times
    ]
    show(
        f"Training a small network on {FEW} pictures of 10 kB",
        ["", "samples/s", "times memory", "us of a core a sample", "memory's share"],
        rows,
        [
            "us of a core: of the training process, which is what others on the machine change least; the worker"
            f" spends {1e6 * worker:.0f} a sample on reading and decoding, less than the update does, which is the"
            " limit where both have a core",
            "to reach: at least 0.90 times memory",
        ],
    )
    for one in data.values():
        one.close()


def forgotten(folder: Path) -> None:
    """Have the system forget what it holds of the files."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def cold(folder: Path, count: int) -> None:
    """Random batches from the disk itself."""
    write_shards(folder, FEW // FEW_SHARDS, FEW_SHARDS)
    data = opened(f"tar:{folder}", workers=0)
    generator = torch.Generator().manual_seed(1)

    def read(ahead: bool) -> float:
        forgotten(folder)
        batches = torch.randint(len(data.train), (COLD, BATCH), generator=generator)
        began = time.perf_counter()
        with patch.object(File, "expect", File.expect if ahead else lambda *_: None):
            for indices in batches:
                data.train.raw(indices)
        return time.perf_counter() - began

    times: dict[str, list[float]] = {"one after another": [], "asked for before": []}
    for _ in range(count):
        times["one after another"].append(read(False))
        times["asked for before"].append(read(True))
    forgotten(folder)
    path = next(folder.iterdir())
    began = time.perf_counter()
    path.read_bytes()
    along = path.stat().st_size / (time.perf_counter() - began) / 2**20
    some = COLD * BATCH
    rows = [
        [name, spread([some / t for t in seconds], digits=0), spread(ratio(times, "one after another", name))]
        for name, seconds in times.items()
    ]
    each = along * 2**20 / (SIZE + 1800)
    note = f"a shard from its beginning to its end: {along:.0f} MiB/s, or {each:.0f} samples/s"
    show("Random samples from shards that are in no cache", ["", "samples/s", "times"], rows, [note])


def memory() -> float:
    """MiB in use by this process and those below it, shared pages counted once."""
    here = psutil.Process()
    return sum(p.memory_full_info().pss for p in (here, *here.children(recursive=True))) / 2**20


class Watch(Callback):
    """Memory every so many updates."""

    def __init__(self, every: int) -> None:
        self.every, self.seen = every, list[tuple[int, float]]()

    def on_batch_end(self, trainer: Trainer) -> None:
        """Look, now and then."""
        steps = trainer.counters.steps
        if steps % self.every == 0 or steps == 10:
            self.seen.append((trainer.counters.samples, memory()))


def million(folder: Path, samples: int) -> None:
    """Index a large set, open it again, and train an epoch on it."""
    began = time.perf_counter()
    write_shards(folder / "many", samples // SHARDS, SHARDS)
    size = sum(path.stat().st_size for path in (folder / "many").iterdir())
    print(f"wrote {size / 1e9:.1f} GB in {time.perf_counter() - began:.0f} s", flush=True)
    rows = []
    spec = f"tar:{folder}/many/shard-{{0000..{SHARDS - 1:04d}}}.tar"
    for what in ("indexed and opened", "opened again"):
        began = time.perf_counter()
        data = opened(spec)
        rows.append([what, f"{time.perf_counter() - began:.0f} s"])
        print(rows[-1], flush=True)
    index = next(Path(os.environ["LESSONPLAN_CACHE"]).glob("shards/*/index"))
    rows.append(["the index", f"{index.stat().st_size / 2**20:.0f} MiB"])
    rows.append(["most memory until then", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"])
    watch = Watch(max(1, samples // BATCH // 10))
    torch.manual_seed(0)
    small = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * (HEIGHT // 8) * (WIDTH // 8), CLASSES))
    began = time.perf_counter()
    lp.fit(small, data, None, "1ep", batch_size=BATCH, lr=0.01, callbacks=[watch])
    seconds = time.perf_counter() - began
    data.close()
    rows.append(["an epoch", f"{seconds:.0f} s, {samples / seconds:.0f} samples/s"])
    rows += [[f"memory after {count:,} samples", f"{mib:.0f} MiB"] for count, mib in watch.seen]
    rows.append(["peak of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"])
    show(
        f"{samples:,} samples of 10 kB in {SHARDS} tar shards ({size / 1e9:.1f} GB)",
        ["", ""],
        rows,
        numbers="one run",
    )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7, help="of each side (default: 7)")
    parser.add_argument("--samples", type=int, default=1_000_000, help="in the large set")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured (default: all)")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where sets are written (default: a temporary one)"
    )
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=given.folder))
    os.environ["LESSONPLAN_CACHE"] = str(work / "cache")
    try:
        if "speed" in given.parts:
            speed(work / "speed", given.repetitions)
        if "cold" in given.parts:
            cold(work / "cold", given.repetitions)
        if "million" in given.parts:
            million(work, given.samples)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
