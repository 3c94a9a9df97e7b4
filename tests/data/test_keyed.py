"""Keyed random numbers: a published stream, uniformity, and no correlation with anything near."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lessonplan.data import keyed_uniform
from lessonplan.data.keyed import _bits_there, _mix_int, keyed_bits, stream_key

N = 20_000
ROWS = torch.arange(N)


def reference_bits(key: int, index: int, draw: int) -> int:
    """The same stream in Python integers: SplitMix64 started at a hash of key and index."""
    mask = (1 << 64) - 1
    golden = 0x9E3779B97F4A7C15
    start = _mix_int(_mix_int((index + golden) & mask) ^ key)
    return _mix_int((start + golden * (draw + 1)) & mask)


def test_splitmix_gives_its_published_first_numbers():
    # The first outputs of SplitMix64 from state 1234567, as its test vectors list them.
    state, golden = 1234567, 0x9E3779B97F4A7C15
    outputs = [_mix_int(state + golden * (i + 1)) for i in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_tensor_arithmetic_equals_big_integers():
    key = stream_key(5, 9)
    indices = torch.tensor([0, 1, 7, 2**40, -3])
    bits = keyed_bits(key, indices, 4)
    for i, index in enumerate(indices.tolist()):
        for d in range(4):
            assert int(bits[i, d]) % 2**64 == reference_bits(key, index, d)


@given(
    st.integers(-(2**70), 2**70),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    st.integers(1, 4),
)
def test_both_arithmetics_give_the_same(key: int, indices: list[int], draws: int) -> None:
    at = torch.tensor(indices, dtype=torch.int64)
    there = _bits_there(key, at, draws)
    assert torch.equal(keyed_bits(key, at, draws), there)
    assert torch.equal(keyed_bits(key, at.repeat_interleave(2)[::2], draws), there)
    uniform = ((_bits_there(stream_key(key, 3), at, draws) >> 40) & 0xFFFFFF).float() * 2.0**-24
    assert torch.equal(keyed_uniform(key, 3, at, draws), uniform)


def test_a_sample_keeps_its_numbers_in_any_batch():
    alone = keyed_uniform(3, 1, torch.tensor([11]), 3)
    among = keyed_uniform(3, 1, torch.tensor([4, 11, 11, 2]), 5)
    assert torch.equal(among[1, :3], alone[0])
    assert torch.equal(among[2], among[1])


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_uniform(seed):
    u = keyed_uniform(seed, 0, ROWS, 2)
    assert u.dtype == torch.float32
    assert float(u.min()) >= 0.0
    assert float(u.max()) < 1.0
    for d in range(2):
        assert stats.kstest(u[:, d].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("next index", lambda: keyed_uniform(0, 0, ROWS + 1, 1)),
        ("next epoch", lambda: keyed_uniform(0, 1, ROWS, 1)),
        ("next seed", lambda: keyed_uniform(1, 0, ROWS, 1)),
        ("next draw", lambda: keyed_uniform(0, 0, ROWS, 2)[:, 1:]),
        ("seed and epoch swapped", lambda: keyed_uniform(2, 1, ROWS, 1)),
    ],
)
def test_neighbours_are_unrelated(name, other):
    first = keyed_uniform(1, 2, ROWS, 1) if "swapped" in name else keyed_uniform(0, 0, ROWS, 1)
    a, b = first[:, 0].numpy(), other()[:, 0].numpy()
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / N**0.5
    # Pairs fill the unit square evenly, which a correlation of 0 alone would not say.
    counts = np.histogram2d(a, b, bins=8, range=[[0, 1], [0, 1]])[0].ravel()
    assert stats.chisquare(counts).pvalue > 1e-3


def test_same_epochs_of_one_sample_vary():
    u = torch.cat([keyed_uniform(0, e, torch.tensor([5]), 1) for e in range(500)])
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3


def test_global_generators_are_not_touched():
    before = torch.random.get_rng_state()
    keyed_uniform(0, 0, ROWS, 3)
    assert torch.equal(before, torch.random.get_rng_state())
