"""Views: what a network sees is the same by fetch, by batches, by workers, in any company."""

import subprocess
import sys
from itertools import count, islice

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from lessonplan.data import Augment, View
from lessonplan.data.arrays import TensorSource
from lessonplan.data.base import Source
from lessonplan.data.normalise import Normalise
from lessonplan.errors import ConfigError, DataError

N = 60
NORMALISE = Normalise(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3]), 255.0)


class Streamed:
    """The samples of a tensor, as if they had to be decoded."""

    in_memory = False

    def __init__(self, inner: TensorSource, bad: int = -1) -> None:
        self.inner, self.bad = inner, bad
        self.labels, self.class_names, self.shape = inner.labels, inner.class_names, inner.shape
        self.fingerprint = "streamed"

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, rows):
        if self.bad in rows.tolist():
            raise DataError(f"image {self.bad} is broken")
        return self.inner.read(rows)


def source() -> TensorSource:
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (N, 3, 8, 8), dtype=torch.uint8, generator=g)
    return TensorSource(x, torch.arange(N) % 4, ["a", "b", "c", "d"])


def shifted(sample):
    return sample + torch.randint(0, 100, (), dtype=torch.uint8)


FULL = Augment(flip=True, crop=2, transform=shifted)
ROWS = torch.arange(N - 1, 9, -1)  # positions are not rows


def view(of, augment=FULL, **options) -> View:
    return View(of, ROWS, normalise=NORMALISE, augment=augment, seed=7, **options)


def test_sources_follow_the_protocol():
    assert isinstance(source(), Source)
    assert isinstance(Streamed(source()), Source)


def test_fetch_normalises_and_labels():
    s = source()
    v = view(s, None)
    x, y = v.fetch(torch.tensor([3, 0, 3]))
    pixels = s.data[ROWS[[3, 0, 3]]].double() / 255
    mean, std = NORMALISE.mean.double(), NORMALISE.std.double()
    expected = (pixels - mean[:, None, None]) / std[:, None, None]
    assert x.dtype == torch.float32
    assert torch.allclose(x.double(), expected, atol=1e-5)
    assert torch.equal(y, s.labels[ROWS[[3, 0, 3]]])
    assert torch.equal(v.labels, s.labels[ROWS])
    assert torch.equal(v.raw(torch.tensor([1])), s.data[ROWS[1:2]])
    assert (len(v), v.num_classes) == (N - 10, 4)


def test_pixels_do_not_depend_on_the_batch():
    v = view(source())
    together = v.fetch(torch.arange(20), epoch=3)[0]
    for i in (0, 7, 19):
        assert torch.equal(v.fetch(torch.tensor([i]), epoch=3)[0][0], together[i])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(v.fetch(order, epoch=3)[0], together[order])
    assert not torch.equal(v.fetch(torch.arange(20), epoch=4)[0], together)


def test_augmentation_is_keyed_by_the_source_row():
    s = source()
    other = View(s, ROWS[5:], normalise=NORMALISE, augment=FULL, seed=7)
    assert torch.equal(other.fetch(torch.tensor([0]), 2)[0], view(s).fetch(torch.tensor([5]), 2)[0])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_give_what_fetch_gives_bit_for_bit(workers):
    direct, streamed = view(source()), view(Streamed(source()), workers=workers)
    batches = [torch.arange(i, i + n) for i, n in ((0, 5), (5, 1), (6, 20), (0, 5), (30, 11))]
    for epoch in (0, 1):
        got = list(streamed.batches(iter(batches), epoch))
        assert len(got) == len(batches)
        for (x, y), batch in zip(got, batches, strict=True):
            want_x, want_y = direct.fetch(batch, epoch)
            assert torch.equal(x, want_x)
            assert torch.equal(y, want_y)
            assert torch.equal(streamed.fetch(batch, epoch)[0], want_x)
    streamed.close()


def test_small_samples_in_memory_are_fetched_together_and_are_the_same_bits(monkeypatch):
    """At most 1,365 at a time of 192 numbers each, and one batch of more than that."""
    data = view(source())
    sizes = [7, 1, 600, 700, 58, 3000, 0, 2]
    batches = [torch.randint(0, len(data), (size,)) for size in sizes]
    alone = [data.fetch(indices, 3) for indices in batches]
    asked = []
    fetch = data.fetch
    monkeypatch.setattr(
        data, "fetch", lambda indices, epoch: (asked.append(len(indices)), fetch(indices, epoch))[1]
    )
    for (x, y), (expected_x, expected_y) in zip(data.batches(batches, 3), alone, strict=True):
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)
        assert x.is_contiguous()
        assert x.data_ptr() % 64 == 0  # as if it had memory of its own: kernels may look at that
    assert asked == [1308, 58, 3000, 2]


def test_batches_that_no_end_is_told_of_are_handed_out_as_they_come():
    data = view(source())
    assert len(list(islice(data.batches(torch.tensor([i % 50]) for i in count()), 2000))) == 2000
    wide = TensorSource(
        torch.zeros(4, 3, 7, 7), torch.tensor([0, 1, 0, 1]), ["a", "b"]
    )  # 147 numbers: no whole lines
    assert not View(wide, torch.arange(4), normalise=NORMALISE).gathers
    large = TensorSource(torch.zeros(2, 3, 224, 224), torch.tensor([0, 1]), ["a", "b"])
    assert not View(large, torch.arange(2), normalise=NORMALISE).gathers


def test_read_ahead_is_bounded_and_workers_stay():
    v = view(Streamed(source()), workers=2, prefetch=2)
    taken = []

    def endless():
        for i in count():
            taken.append(i)
            yield torch.tensor([i % 50])

    loop = v.batches(endless())
    for n, _ in enumerate(islice(loop, 10), start=1):
        assert len(taken) <= n + 2 * 2
    workers = {p.pid for p in psutil.Process().children()}
    loop.close()  # an abandoned loop leaves nothing behind for the next
    x, _ = next(iter(v.batches([torch.tensor([4, 5])])))
    assert torch.equal(x, view(source()).fetch(torch.tensor([4, 5]))[0])
    assert {p.pid for p in psutil.Process().children()} & workers == workers
    v.close()
    assert not {p.pid for p in psutil.Process().children()} & workers


def test_loops_within_loops():
    v, direct = view(Streamed(source()), workers=1), view(source())
    batches = [torch.tensor([i]) for i in range(4)]
    for outer, (x, _) in zip(batches, v.batches(batches, 0), strict=True):
        assert torch.equal(x, direct.fetch(outer, 0)[0])
        for inner, (z, _) in zip(batches, v.batches(batches, 1), strict=True):
            assert torch.equal(z, direct.fetch(inner, 1)[0])
    v.close()


def test_an_error_in_a_worker_is_one_sentence():
    v = view(Streamed(source(), bad=int(ROWS[2])), workers=1)
    with pytest.raises(DataError) as caught:
        list(v.batches([torch.tensor([0]), torch.tensor([2])]))
    assert str(caught.value) == f"image {ROWS[2]} is broken"
    v.close()


def test_streaming_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    v = view(Streamed(source()), workers=1)
    list(v.batches([torch.tensor([0])]))
    list(v.batches([torch.tensor([1])]))
    v.close()
    assert torch.equal(before, torch.random.get_rng_state())


def test_with_augment_changes_nothing_else():
    v = view(source())
    plain = v.with_augment(None)
    assert torch.equal(plain.fetch(torch.arange(9))[0], view(source(), None).fetch(torch.arange(9))[0])
    assert torch.equal(plain.labels, v.labels)
    assert torch.equal(plain.with_augment(FULL).fetch(torch.arange(9), 2)[0], v.fetch(torch.arange(9), 2)[0])


def test_features():
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    s = TensorSource(x, torch.zeros(12, dtype=torch.int64), ["a"])
    v = View(s, torch.arange(12), normalise=Normalise(x.mean(0), x.std(0, correction=0), 1.0))
    got, _ = v.fetch(torch.arange(12))
    assert torch.allclose(got.mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(got.std(0, correction=0), torch.ones(5), atol=1e-5)
    assert nn.Linear(5, 2)(got).shape == (12, 2)


def test_refuses_nonsense():
    with pytest.raises(ConfigError, match="workers"):
        view(source(), workers=-1)
    with pytest.raises(ConfigError, match="too large"):
        view(source(), Augment(crop=8))


def test_a_script_that_forgets_to_close_ends(tmp_path):
    rng = np.random.default_rng(0)
    from PIL import Image

    for c in "ab":
        (tmp_path / c).mkdir()
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / c / f"{i}.png")
    script = (
        "import torch, lessonplan.data as d\n"
        f"data = d.load('folder:{tmp_path}', memory_limit=1, test_fraction=0.5)\n"
        "loop = data.train.batches([torch.tensor([0]), torch.tensor([1]), torch.tensor([2])])\n"
        "print(next(loop)[0].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.strip() == "torch.Size([1, 3, 8, 8])"
    assert done.stderr == ""


def test_pixels_are_what_is_normalised():
    """Augmented like what is fetched, transform included, with and without workers in between."""
    for of in (source(), Streamed(source())):
        augmented = view(of, FULL)
        rows = torch.tensor([3, 0, 7])
        pixels = augmented.pixels(rows, 2)
        assert pixels.dtype == torch.uint8
        assert torch.equal(NORMALISE(pixels), augmented.fetch(rows, 2)[0])
        assert not torch.equal(pixels, augmented.raw(rows))
