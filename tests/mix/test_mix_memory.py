"""Batches written into memory that is there: the same bits, and never memory that somebody may still need."""

from __future__ import annotations

import copy
import mmap
import pickle
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import lessonplan as lp
from lessonplan import mix as m
from lessonplan.large_memory import LARGE, LargeMemory
from lessonplan.mix import functional as F
from lessonplan.mix import one_pass
from lessonplan.mix.memory import Memory, direct

CLASSES = 5
SHAPES = st.sampled_from([(), (7,), (3, 5, 9), (1, 8, 8), (3, 33, 31), (3, 70, 65), (2, 3, 4, 6), (3, 200, 210)])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


def bits(t):
    """So that zeros of different sign, and NaN of the same bits, are told apart."""
    return t.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[t.element_size()])


def batch(n, shape, dtype, seed, last):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=g).to(dtype)
    if last and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, torch.randperm(n, generator=g), g


@pytest.fixture(params=[(1, one_pass._BLOCK), (2, one_pass._BLOCK), (1, 4096)], ids=str)
def _threads(request):
    """Threads, and bytes of a block: a batch is one or many of them."""
    before = torch.get_num_threads(), one_pass._BLOCK
    threads, one_pass._BLOCK = request.param
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before[0])
    one_pass._BLOCK = before[1]


BATCHES = {
    "n": st.integers(1, 19),
    "shape": SHAPES,
    "dtype": DTYPES,
    "seed": st.integers(0, 99),
    "last": st.booleans(),
}


def who(permutation, turned, generator):
    """Partners as they are given, and each one's place: of a permutation, or of a batch that is turned."""
    n = len(permutation)
    if not turned:
        return permutation, permutation
    places = int(torch.randint(n, (), generator=generator))
    return places, torch.tensor([(i - places) % n for i in range(n)])


@pytest.mark.usefixtures("_threads")
@settings(deadline=None, max_examples=40)
@given(**BATCHES, turned=st.booleans(), each=st.booleans(), lam=st.floats(0, 1))
def test_interpolation_has_the_bits_of_the_formula(n, shape, dtype, seed, last, turned, each, lam):
    x, permutation, g = batch(n, shape, dtype, seed, last)
    partners, permutation = who(permutation, turned, g)
    lam = torch.rand(n, generator=g, dtype=torch.float64) if each else torch.tensor(lam, dtype=torch.float64)
    mixed = one_pass.interpolate(x, partners, lam, torch.empty_like)
    expected = F.interpolate(x, x[permutation], lam)
    assert torch.equal(bits(mixed), bits(expected))
    assert mixed.stride() == expected.stride()


@pytest.mark.usefixtures("_threads")
@settings(deadline=None, max_examples=40)
@given(**BATCHES, turned=st.booleans(), value=st.sampled_from([0.0, -0.0, 0.5]))
def test_boxes_have_the_bits_of_the_formula(n, shape, dtype, seed, last, turned, value):
    if len(shape) < 3:
        shape = (3, 4, 6)
    x, permutation, g = batch(n, shape, dtype, seed, last)
    partners, permutation = who(permutation, turned, g)
    height, width = shape[-2:]
    rows = torch.randint(height + 1, (n, 2), generator=g).sort(1).values
    columns = torch.randint(width + 1, (n, 2), generator=g).sort(1).values
    boxes = torch.cat([rows, columns], 1)
    pasted = one_pass.paste_boxes(x, partners, boxes, torch.empty_like)
    assert torch.equal(bits(pasted), bits(F.paste_boxes(x, x[permutation], boxes)[0]))
    one = one_pass.paste_box(x, partners, tuple(boxes[0].tolist()), torch.empty_like)
    assert torch.equal(bits(one), bits(F.paste_boxes(x, x[permutation], boxes[:1])[0]))
    filled = one_pass.fill_boxes(x, value, boxes, torch.empty_like)
    assert torch.equal(bits(filled), bits(F.paste_boxes(x, value, boxes)[0]))


@given(labels=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1), lam=st.floats(0, 1, width=32))
def test_label_masses_have_the_bits_of_mixed_rows(labels, lam):
    y, partner = torch.tensor(labels).T
    hot = torch.eye(CLASSES)
    for share in (torch.tensor(lam), torch.rand(len(y), generator=torch.Generator().manual_seed(len(y)))):
        expected = F.interpolate(hot[y], hot[partner], share)
        assert torch.equal(F.pair_label_mass(y, partner, share, CLASSES), expected)


@given(
    n=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    turned=st.booleans(),
    each=st.booleans(),
    kind=st.sampled_from([torch.int64, torch.int32, torch.int8, torch.uint8]),
    lam=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 1e-40, 2.0**-24, 2.0**-25, 1 - 2.0**-24, 0.1])),
)
def test_label_masses_of_pairs_have_the_bits_of_mixed_rows(n, seed, turned, each, kind, lam):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n,), generator=g, dtype=kind)
    partners, places = who(torch.randperm(n, generator=g), turned, g)
    share = torch.rand(n, generator=g, dtype=torch.float64) if each else torch.tensor(lam, dtype=torch.float64)
    hot = torch.eye(CLASSES)[y.long()]
    mass = one_pass.pair_label_mass(y, partners, share, CLASSES)
    assert torch.equal(mass, F.interpolate(hot, hot[places], share))
    assert mass.dtype == torch.float32


def test_label_masses_of_one_label_are_one():
    """Added up in float32, for shares of all sizes: dense around 1/2, and down to the smallest."""
    dense = 0.5 + torch.arange(-(2**16), 2**16) * 2.0**-25
    share = torch.cat([dense, torch.rand(2**18), 2.0 ** -torch.arange(150.0), torch.tensor([0.0, 1.0])])
    labels = torch.zeros(len(share), dtype=torch.int64)
    assert bool((one_pass.pair_label_mass(labels, 1, share.roll(-1), 1) == 1).all())


@given(seed=st.integers(0, 2**31), side=st.sampled_from([7, 32, 33, 224, 1000]))
def test_the_one_box_of_a_batch_has_the_centre_that_tensors_have(seed, side):
    """Drawn in numbers, rounded as float32: the box of each sample's own, of a batch of one, says the same."""
    x, y = torch.rand(1, 1, side, side + 1).expand(2, 1, side, side + 1).clone(), torch.tensor([0, 1])
    x[1] = -1.0
    mix = m.CutMix(num_classes=2, seed=seed)
    mixed, _ = mix(x, y)
    again = m.CutMix(num_classes=2, seed=seed)
    partner = again._permutations(1, 2, x.device)[0]
    lam, centre = again._dirichlet(1.0, 1, 2)[0], again._uniform(1, 2) * torch.tensor([side, side + 1])
    box = F.cutmix_boxes(lam, centre.long(), side, side + 1)
    assert torch.equal(mixed, F.paste_boxes(x, x[partner], box)[0])


def reusing(case, seed=0):
    mix = case.make(seed)
    mix.reuse_memory()
    return mix


def test_reuse_changes_no_result(case):
    plain, other = case.make(3), reusing(case, 3)
    for i, n in enumerate((9, 12, 7, 12, 12)):
        x, y = case.batch(n, seed=i)
        before = x.clone()
        for expected, got in zip(plain(x, y), other(x, y), strict=True):
            assert torch.equal(got, expected)
        assert torch.equal(x, before)


PAIRS = [
    m.Mixup(num_classes=CLASSES, reuse=True),
    m.Mixup(num_classes=CLASSES, per_sample=True, reuse=True),
    m.CutMix(num_classes=CLASSES, reuse=True),
    m.CutMix(num_classes=CLASSES, per_sample=True, reuse=True),
    m.Cutout(num_classes=CLASSES, reuse=True),
    m.SamplePairing(num_classes=CLASSES, reuse=True),
    m.SumAugment(1, num_classes=CLASSES, reuse=True),
    m.Probability(m.Mixup(num_classes=CLASSES), p=1.0, reuse=True),
    m.Probability(m.Mixup(num_classes=CLASSES), p=0.0, reuse=True),
    m.Until(m.CutMix(num_classes=CLASSES), reuse=True),
    m.Choice([m.Mixup(num_classes=CLASSES), m.CutMix()], p=[0, 1], reuse=True),
    m.Chain([m.Mixup(num_classes=CLASSES), m.Cutout()], reuse=True),
]


def drawn(n=8, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 6, 8, generator=g).to(dtype), torch.randint(CLASSES, (n,), generator=g)


@pytest.mark.parametrize("mix", PAIRS, ids=str)
def test_two_calls_give_the_same_memory_and_targets_of_their_own(mix):
    mix = copy.deepcopy(mix)
    (first, target), (second, later) = mix(*drawn()), mix(*drawn(seed=1))
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, first), "the first batch is overwritten, as said"
    assert later.data_ptr() != target.data_ptr()
    mix.reuse_memory(False)
    third, fourth = mix(*drawn())[0], mix(*drawn())[0]
    assert len({second.data_ptr(), third.data_ptr(), fourth.data_ptr()}) == 3


def test_images_with_channels_last_keep_their_layout_in_memory_that_is_there() -> None:
    mix, (x, y) = m.Mixup(num_classes=CLASSES, reuse=True), drawn()
    last = x.contiguous(memory_format=torch.channels_last)
    first, second = mix(last, y)[0], mix(last, y)[0]
    assert second.data_ptr() == first.data_ptr()
    assert second.stride() == last.stride() != x.stride()


def test_volumes_keep_their_layout_and_memory_of_one_layout_is_none_of_another() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 3, 2, 6, 8, generator=g), torch.arange(4)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    assert direct(x)
    assert direct(last)
    assert not direct(x.transpose(2, 3)), "not dense in the order of either layout"
    mix, plain = m.Mixup(num_classes=CLASSES, seed=0, reuse=True), m.Mixup(num_classes=CLASSES, seed=0)
    taken = set()
    for batch_x in (last, x):
        first = mix(batch_x, y)[0]
        expected = plain(x, y)[0]
        assert torch.equal(first, expected)
        assert first.stride() == batch_x.stride()
        assert first.data_ptr() not in taken
        taken.add(first.data_ptr())
        second = mix(batch_x, y)[0]
        assert second.data_ptr() == first.data_ptr()
        assert torch.equal(second, plain(x, y)[0])


@pytest.mark.parametrize("cls", [m.Mixup, m.CutMix, m.Cutout])
def test_without_reuse_memory_is_new(cls):
    mix = cls(num_classes=CLASSES)
    first, second = mix(*drawn())[0], mix(*drawn(seed=1))[0]
    assert first.data_ptr() != second.data_ptr()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("mix", PAIRS[:6], ids=str)
def test_memory_is_new_where_it_does_not_fit(mix):
    mix = copy.deepcopy(mix)
    first = mix(*drawn())[0]
    x, y = drawn()
    others = {
        "type": x.double(),
        "layout": x.contiguous(memory_format=torch.channels_last),
        "shape": x[..., :4].contiguous(),
        "longer": torch.cat([x, x]),
        "itself": first,
    }
    for name, other in others.items():
        mix = copy.deepcopy(mix)  # without the memory
        first = mix(x, y)[0]
        if name == "itself":
            other = first
        kept = first.clone()
        mixed = mix(other, torch.cat([y, y])[: len(other)])[0]
        assert mixed.data_ptr() != first.data_ptr(), name
        assert torch.equal(first, kept), name
    wanting = x.clone().requires_grad_()
    mix = copy.deepcopy(mix)
    first = mix(x, y)[0]
    mixed = mix(wanting, y)[0]
    assert mixed.data_ptr() != first.data_ptr()
    mixed.sum().backward()
    assert wanting.grad is not None


def test_a_smaller_batch_takes_a_part_and_the_next_has_the_whole_again():
    mix = m.Mixup(num_classes=CLASSES, reuse=True)
    whole = mix(*drawn(8))[0]
    part = mix(*drawn(5))[0]
    again = mix(*drawn(8))[0]
    assert whole.data_ptr() == part.data_ptr() == again.data_ptr()
    assert part.shape[0] == 5


def test_backward_through_an_overwritten_batch_is_an_error():
    """Not a wrong gradient: the weights' gradient needs the first batch, which is gone."""
    mix, layer = m.Mixup(num_classes=CLASSES, reuse=True), torch.nn.Linear(144, CLASSES)
    x, y = drawn()
    loss = layer(mix(x, y)[0].flatten(1)).sum()
    mix(x, y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    layer(mix(x, y)[0].flatten(1)).sum().backward()  # one after the other is right


def test_gradients_asked_of_a_batch_stay_with_it():
    """As adversarial training does it."""
    mix = m.CutMix(num_classes=CLASSES, reuse=True)
    first = mix(*drawn())[0].requires_grad_()
    first.square().sum().backward()
    gradient = first.grad.clone()
    second = mix(*drawn(seed=1))[0]
    assert not second.requires_grad
    assert second.grad is None
    assert torch.equal(first.grad, gradient)


def test_memory_of_inference_mode_is_left_to_it():
    mix = m.Mixup(num_classes=CLASSES, reuse=True)
    with torch.inference_mode():
        inner = mix(*drawn())[0]
    outer = mix(*drawn())[0]
    assert outer.data_ptr() != inner.data_ptr()
    torch.nn.Linear(144, 2)(outer.flatten(1)).sum().backward()


def test_memory_is_neither_copied_nor_stored_nor_part_of_the_identity():
    mix = m.Mixup(num_classes=CLASSES, reuse=True)
    first = mix(*drawn())[0]
    twin = copy.deepcopy(mix)
    assert twin.reuse
    assert twin(*drawn())[0].data_ptr() != first.data_ptr()
    assert mix.config() == m.Mixup(num_classes=CLASSES).config()
    assert str(mix) == "mixup"
    assert not any(isinstance(v, torch.Tensor) and v.numel() == first.numel() for v in mix.state_dict().values())
    mix.reset()
    assert mix.reuse


def test_transforms_of_functions_go_their_own_way():
    """Gradients through a mix by torch.func; subclasses of tensors."""
    x, y = drawn()
    mix = m.Mixup(num_classes=CLASSES, reuse=True, seed=1)
    plain = m.Mixup(num_classes=CLASSES, seed=1)
    wanted = x.clone().requires_grad_()
    plain(wanted, y)[0].square().sum().backward()
    got = torch.func.grad(lambda x: mix(x, y)[0].square().sum())(x)
    torch.testing.assert_close(got, wanted.grad)
    parameter = torch.nn.Parameter(x, requires_grad=False)
    assert not direct(parameter)
    assert direct(x)
    assert not direct(x[::2, :, ::2])


class Looking(torch.nn.Module):
    """A network that keeps its training batches, so that their memory is not free for others."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(64, 10), []

    def forward(self, x):
        if self.training:
            self.seen.append(x.detach())
        return self.layer(x.flatten(1))

    def places(self):
        """Where its full batches lie."""
        whole = [x for x in self.seen if len(x) == 16]
        assert len(whole) == 8
        return {x.data_ptr() for x in whole}


@pytest.mark.parametrize("text", ["mixup", "cutmix", "cutout", "(mixup|cutmix):until=50%"])
def test_fit_reuses_memory_by_itself_and_trains_the_same_weights(text, monkeypatch):
    data = lp.data.load("digits", per_class=8, val_per_class=2, augment="none")
    mix = m.parse_mix(text)

    def weights(model):
        with torch.no_grad():
            model.layer.weight.copy_(torch.linspace(-0.1, 0.1, 640).view(10, 64))
            model.layer.bias.zero_()
        run = lp.fit(model, data, lp.Plan(mix=mix), "8 steps", batch_size=16, threads=1)
        return [p.detach().clone() for p in run.model.parameters()]

    first = Looking()
    with_reuse = weights(first)
    assert len(first.places()) <= (3 if "|" in text else 1), "mixup, cutmix and clean samples have their own"
    assert not any(part.reuse for part in (mix, *mix.children())), "the plan is given back as it was"
    monkeypatch.setattr(m.Mix, "reuse_memory", lambda self, allowed=True: None)
    second = Looking()
    assert all(torch.equal(a, b) for a, b in zip(weights(second), with_reuse, strict=True))
    assert len(second.places()) == 8


class Collate:
    def __init__(self):
        self.mix = m.Mixup(num_classes=CLASSES, reuse=True)

    def __call__(self, samples):
        x, y = zip(*samples, strict=True)
        return self.mix(torch.stack(x), torch.tensor(y))


@pytest.mark.slow
def test_workers_hand_out_memory_of_its_own():
    """Several batches are on their way at once: each must keep what it was."""
    x = torch.arange(64.0)[:, None].expand(64, 5000).contiguous()
    data = [(row, i % CLASSES) for i, row in enumerate(x)]
    loader = DataLoader(data, 8, num_workers=1, prefetch_factor=4, collate_fn=Collate())
    batches = [b for b, _ in loader]
    kept = [b.clone() for b in batches]
    assert len({b.data_ptr() for b in batches}) == len(batches)
    assert all(torch.equal(a, b) for a, b in zip(batches, kept, strict=True))
    for number, b in enumerate(batches):
        assert 8 * number - 1e-3 <= b.min()
        assert b.max() <= 8 * number + 7 + 1e-3


LARGE_BATCH = LARGE // (4 * 3 * 64 * 64) + 1  # samples of 3 x 64 x 64 that take new memory from the system


def large(n=LARGE_BATCH, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 64, 64, generator=g), torch.randint(CLASSES, (n,), generator=g)


WITHOUT_REUSE = [
    m.Mixup(num_classes=CLASSES),
    m.CutMix(num_classes=CLASSES),
    m.CutMix(num_classes=CLASSES, per_sample=True),
    m.Cutout(num_classes=CLASSES),
    m.Probability(m.Mixup(num_classes=CLASSES), p=0.0),
]


@pytest.mark.parametrize("mix", WITHOUT_REUSE, ids=str)
def test_a_large_batch_takes_memory_that_nobody_has_any_more(mix):
    mix = copy.deepcopy(mix)
    x, y = large()
    place = mix(x, y)[0].data_ptr()
    assert mix(x, y)[0].data_ptr() == place, "the first one was dropped"
    held = mix(x, y)[0]
    kept = held.clone()
    assert mix(x, y)[0].data_ptr() != held.data_ptr()
    assert torch.equal(held, kept)


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["view", "graph", "numpy", "drop"])), max_size=12)
)
def test_no_large_batch_is_overwritten_that_somebody_holds(steps):
    """However it is held: as it is, by a view, by autograd alone, by an array."""
    mix, held = m.Mixup(num_classes=CLASSES, seed=0), {}
    weight = torch.ones(64, requires_grad=True)
    for i, (place, how) in enumerate(steps):
        batch_x = mix(*large(LARGE_BATCH + place, seed=i))[0]
        expected = batch_x.sum((0, 1, 2))
        if how == "view":
            held[place] = (batch_x[:, 1:][1:], batch_x[:, 1:][1:].clone())
        elif how == "numpy":
            held[place] = (batch_x.numpy(), batch_x.clone())
        elif how == "graph":
            held[place] = ((batch_x * weight).sum(), expected)
        else:
            held.pop(place, None)
        del batch_x
        for value, was in held.values():
            if isinstance(value, torch.Tensor) and value.requires_grad:
                gradient = torch.autograd.grad(value, weight, retain_graph=True)[0]
                torch.testing.assert_close(gradient, was)
            else:
                assert torch.equal(torch.as_tensor(value), was)


def test_a_mix_keeps_the_memory_of_two_large_batches_and_no_small_one():
    mix, (x, y) = m.CutMix(num_classes=CLASSES), large()
    held = [mix(x, y)[0] for _ in range(4)]
    assert len({b.data_ptr() for b in held}) == 4
    del held
    assert len(mix._memory._large) == 2
    assert mix(x[:-8], y[:-8])[0].shape[0] == len(x) - 8
    assert len(mix._memory._large) == 2, "a smaller one lies in it"
    small = m.CutMix(num_classes=CLASSES)
    small(*drawn())
    assert not small._memory._large
    assert not copy.deepcopy(mix)._memory


def test_memory_of_a_rare_large_batch_goes_in_time():
    mix, (x, y) = m.CutMix(num_classes=CLASSES), large(6 * LARGE_BATCH)
    mix(x, y)
    for _ in range(2):
        held = [mix(x[:LARGE_BATCH], y[:LARGE_BATCH])[0] for _ in range(2)]
        del held
    assert max(memory.size for memory in mix._memory._large) < x.numel() * x.element_size()


def test_memory_that_is_short_is_told_as_such(monkeypatch):
    def short(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", short)
    if sys.platform == "linux":
        with pytest.raises(MemoryError, match="Cannot allocate"):
            m.Mixup(num_classes=CLASSES)(*large())


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch: both layouts are not done yet
def test_another_default_device_and_other_layouts_are_left_alone():
    x = torch.zeros(LARGE_BATCH, 3, 64, 64)
    with torch.device("meta"):
        assert LargeMemory(4 * x.numel()).empty_like(x).device.type == "cpu"
    assert not direct(torch.eye(4).to_sparse_csr())
    assert not direct(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))
    assert direct(x)


def test_large_batches_are_what_small_ones_are():
    """Layout, type, mode and sending them on: nobody sees where they lie."""
    x, y = large()
    last = x.contiguous(memory_format=torch.channels_last)
    mix = m.Mixup(num_classes=CLASSES)
    for given_x in (x, last, x.double(), last.bfloat16()):
        mixed = mix(given_x, y)[0]
        assert mixed.stride() == given_x.stride()
        assert mixed.dtype == given_x.dtype
        assert mixed.data_ptr() % 64 == 0
        assert not mixed._is_view()
        assert mixed.untyped_storage().nbytes() == mixed.numel() * mixed.element_size(), "saved without a margin"
        assert torch.equal(pickle.loads(pickle.dumps(mixed)), mixed)
        was = mixed.clone()
        assert torch.equal(mixed.share_memory_(), was)
    with torch.inference_mode():
        inner = mix(x, y)[0]
    assert inner.is_inference()
    del inner
    outer = mix(x, y)[0]
    assert not outer.is_inference()
    torch.nn.Linear(64, 1)(outer).sum().backward()


def test_shared_memory_is_left_alone():
    memory = Memory()
    first = memory.like(torch.ones(3, 4))
    first.share_memory_()
    assert memory.like(torch.ones(3, 4)).data_ptr() != first.data_ptr()
