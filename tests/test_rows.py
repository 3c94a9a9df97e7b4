"""Samples by position are what indices in brackets give, in the same memory format."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.rows import rows_of

KINDS = [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool]


@given(
    st.integers(1, 9),
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(KINDS),
    st.data(),
)
def test_rows_are_those_of_brackets(count: int, sides: list[int], kind: torch.dtype, data: st.DataObject) -> None:
    x = torch.arange(count * max(1, int(torch.tensor(sides or [1]).prod()))).to(kind)
    x = x[: count * int(torch.tensor(sides or [1]).prod())].view(count, *sides)
    at = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), max_size=12)), dtype=torch.int64)
    assert torch.equal(rows_of(x, at), x[at])
    if len(sides) > 1:
        turned = x.transpose(1, -1)
        assert torch.equal(rows_of(turned, at), turned[at])


def test_gradients_are_those_of_brackets() -> None:
    torch.manual_seed(0)
    x, at = torch.randn(6, 3, 2, requires_grad=True), torch.tensor([5, 0, 0, 3])
    weight = torch.randn(4, 3, 2)
    ours, other = (torch.autograd.grad((way * weight).sum(), x)[0] for way in (rows_of(x, at), x[at]))
    assert torch.equal(ours, other)


def test_the_memory_format_is_kept() -> None:
    x = torch.randn(5, 3, 4, 6).to(memory_format=torch.channels_last)
    assert rows_of(x, torch.tensor([4, 1])).is_contiguous(memory_format=torch.channels_last)
    assert rows_of(x.contiguous(), torch.tensor([4, 1])).is_contiguous()
