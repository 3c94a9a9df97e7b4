"""Randomness and state of every mix: seeded, local, saved and restored bit for bit."""

from __future__ import annotations

import copy
import io
import pickle
import random
import re

import numpy as np
import pytest
import torch

from lessonplan import mix as m
from lessonplan.errors import ConfigError


def run(mix, case, batches=4, start=0):
    """Outputs of a few batches, with what a trainer tells a mix in between."""
    out = []
    for i in range(start, start + batches):
        out.extend(mix(*case.batch(12, seed=i)))
        mix.advance(0.05 * i, epoch_start=i % 2 == 0)
        out.append(mix.step([0.5, 0.6, 0.4, 0.3, 0.2][i % 5]))
    return out


def same(a, b):
    """Bit for bit, outcomes of ``step`` included."""
    pairs = zip(a, b, strict=True)
    return all(
        p.shape == q.shape and torch.equal(p, q) if isinstance(p, torch.Tensor) else p == q for p, q in pairs
    )


def test_one_seed_one_result(case):
    assert same(run(case.make(7), case), run(case.make(7), case))


def test_another_seed_another_result(random_case):
    assert not same(run(random_case.make(7), random_case), run(random_case.make(8), random_case))


def test_kinds_of_mixes_draw_apart_from_one_seed():
    """Otherwise compared methods would pair the same images."""
    x, y = torch.eye(40), torch.zeros(40, dtype=torch.long)
    mixes = m.Mixup(num_classes=1, seed=1), m.SamplePairing(num_classes=1, seed=1)
    partners = [(mix(x, y)[0] - 2 * torch.eye(40)).argmax(1) for mix in mixes]
    assert not torch.equal(*partners)


def test_seed_is_independent_of_the_global_generators(case):
    first = run(case.make(7), case)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(12345)
        assert same(run(case.make(7), case), first)
    finally:
        torch.set_rng_state(state)


def test_global_generators_are_never_touched(case):
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state()), random.getstate()  # noqa: NPY002
    mix = case.make(None)
    mix.finish_setup(5, 3)
    run(mix, case)
    mix.load_state_dict(mix.state_dict())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert pickle.dumps(np.random.get_state()) == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_state_goes_through_a_file_and_continues_bit_for_bit(case):
    """Saved in the middle (of a cascade's stage, too), loaded into a mix of another seed."""
    for batches in (1, 2, 3, 5):
        mix = case.make(1)
        run(mix, case, batches)
        file = io.BytesIO()
        torch.save(mix.state_dict(), file)
        file.seek(0)
        other = case.make(2)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert other.describe() == mix.describe()
        assert other.draws(8) == mix.draws(8)
        assert same(run(other, case, 8, start=batches), run(mix, case, 8, start=batches))


@pytest.mark.parametrize(
    ("given", "taken", "said"),
    [
        ("mixup", "cascade:k=4", "no 'stage', and so is not of Cascade"),
        ("mixup|cutmix", "mixup", "of a mix of 2 others, and mixup is one of 0"),
        ("mixup", "mixup|cutmix", "of a mix of 0 others, and mixup|cutmix is one of 2"),
        ("cascade:k=8", "cascade:k=2", "of stage 4 of a cascade, and cascade:k=2 has 2"),
    ],
)
def test_a_state_of_another_mix_is_refused(given, taken, said):
    stored = m.parse_mix(given)
    stored.advance(1.0)
    with pytest.raises(ConfigError, match=re.escape(said)):
        m.parse_mix(taken).load_state_dict(stored.state_dict())


def test_state_dict_is_a_snapshot(random_case):
    """Going on does not change a state that was taken before."""
    mix = random_case.make(1)
    state = mix.state_dict()
    first = run(mix, random_case)
    again = random_case.make(1)
    again.load_state_dict(state)
    assert same(run(again, random_case), first)


def test_pickle_and_deepcopy_continue_alike_and_apart(case):
    mix = case.make(1)
    run(mix, case, 3)
    pickled, copied = pickle.loads(pickle.dumps(mix)) if picklable(mix) else None, copy.deepcopy(mix)
    expected = run(mix, case, 4, start=3)
    assert same(run(copied, case, 4, start=3), expected)
    if pickled is not None:
        assert same(run(pickled, case, 4, start=3), expected)


def picklable(mix):
    """All but the mix whose coefficients are a function of the (unimportable) conftest."""
    return not callable(getattr(mix, "coefficients", None))


def test_finish_setup_gives_the_runs_seed_to_mixes_without_one(random_case):
    def result(own, run_seed):
        mix = random_case.make(own)
        mix.finish_setup(5, run_seed)
        return run(mix, random_case)

    assert same(result(None, 1), result(None, 1))
    assert not same(result(None, 1), result(None, 2))
    assert same(result(4, 1), result(4, 2))
