"""In-between figures on networks whose answers and gradients are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan import evaluate as ev
from lessonplan.errors import LessonplanError

Network = Callable[..., nn.Module]


class Middle(nn.Module):
    """Points on a line: class 0 below .25, class 1 above .75, class 2 between."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return torch.cat([10 * (0.25 - x), 10 * (x - 0.75), torch.zeros_like(x)], 1)


def test_misses_are_predictions_of_neither_label() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])  # the only pairs are (0, 1) and (1, 0)
    found = ev.between_samples(Middle(), x, y, [0.0, 0.2, 0.5, 0.8, 1.0], pairs=50)
    assert [f.miss for f in found] == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert [f.lam for f in found] == [0.0, 0.2, 0.5, 0.8, 1.0]


def test_pairs_are_different_samples_and_the_same_at_every_ratio() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach())
            return 2 * x

    x, y = torch.eye(4), torch.arange(4)
    ev.between_samples(Spy(), x, y, [0.5, 0.25], pairs=400, batch_size=1000)
    half, quarter = seen
    assert torch.equal((half == 0.5).sum(1), torch.full((400,), 2))
    assert torch.equal(half > 0, quarter > 0)
    assert torch.equal((quarter == 0.25).sum(1), torch.ones(400, dtype=torch.int64))
    assert (quarter.argmax(1).bincount() > 60).all()


def test_gradient_of_the_mixed_loss_is_softmax_minus_target() -> None:
    """With the identity as network the gradient is known: p - (lam e_i + (1 - lam) e_j)."""
    x, y = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    (found,) = ev.between_samples(nn.Identity(), x, y, [0.5], pairs=10)
    p = torch.tensor([1.0, 0.5]).softmax(0)
    assert found.gradient_norm == pytest.approx((p - 0.5).norm().item(), rel=1e-5)


@pytest.mark.parametrize("of", ["loss", "logits"])
def test_norms_are_those_of_single_samples(network: Network, images: Tensor, labels: Tensor, of: str) -> None:
    model = network("lenet")
    got = ev.input_gradient_norm(model, images, labels, of=of)
    for i in (0, 7):
        if of == "loss":
            leaf = images[i : i + 1].clone().requires_grad_()
            F.cross_entropy(model(leaf), labels[i : i + 1]).backward()
            expected = leaf.grad.norm()
        else:
            expected = torch.func.jacrev(lambda x: model(x.unsqueeze(0))[0])(images[i]).norm()
        torch.testing.assert_close(got[i], expected, rtol=1e-4, atol=1e-6)
    model.zero_grad()
    assert all(p.requires_grad for p in model.parameters())


def test_batches_and_progress_change_nothing(network: Network, images: Tensor, labels: Tensor) -> None:
    model, seen = network("lenet").train(), []
    whole = ev.between_samples(model, images, labels, [0.3], pairs=30, of="logits")
    with torch.no_grad():
        parts = ev.between_samples(
            model, images, labels, [0.3], pairs=30, of="logits", batch_size=7, progress=seen.append
        )
    assert seen == [7, 7, 7, 7, 2]
    assert parts[0].miss == whole[0].miss
    assert parts[0].gradient_norm == pytest.approx(whole[0].gradient_norm, rel=1e-4)
    assert model.training


def test_bad_input_is_refused(images: Tensor, labels: Tensor) -> None:
    model = nn.Flatten()
    for call, says in (
        (lambda: ev.between_samples(model, images[:1], labels[:1]), "at least two samples"),
        (lambda: ev.between_samples(model, images, labels, pairs=0), "one pair"),
        (lambda: ev.between_samples(model, images, labels, [1.5]), r"in \[0, 1\]"),
        (lambda: ev.between_samples(model, images, labels, []), r"in \[0, 1\]"),
        (lambda: ev.between_samples(model, images, labels, of="x"), "loss or logits"),
        (lambda: ev.input_gradient_norm(model, images, labels[:2]), "integer labels"),
        (lambda: ev.input_gradient_norm(model, images, labels + 10_000), "outputs"),
        (lambda: ev.predict_logits(model, images[:0]), "nothing to predict"),
    ):
        with pytest.raises(LessonplanError, match=says):
            call()
