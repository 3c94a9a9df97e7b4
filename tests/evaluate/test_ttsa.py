"""Test-time sums against the formula written as a loop, and what their bounds promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lessonplan import evaluate as ev
from lessonplan.errors import LessonplanError

Network = Callable[..., nn.Module]


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(weight: Tensor) -> nn.Linear:
    layer = torch.nn.utils.skip_init(nn.Linear, weight.shape[1], len(weight), bias=False)
    layer.weight.data = weight
    return layer


def by_the_formula(
    model: nn.Module, x: Tensor, pool: Tensor, k: int, copies: int, lam: float, of: str, seed: int
) -> Tensor:
    """Thesis section 3.6, one image and one copy at a time, with weights that sum to 1."""
    partners = torch.randint(len(pool), (copies, len(x), k - 1), generator=seeded(seed))
    rows = []
    for i, image in enumerate(x):
        total = 0.0
        for copy in range(copies):
            augmented = lam / (lam + k - 1) * image
            for j in partners[copy, i]:
                augmented = augmented + pool[j] / (lam + k - 1)
            logits = model(augmented.unsqueeze(0))[0]
            total = total + (logits if of == "logits" else logits.softmax(0))
        rows.append(total / copies)
    return torch.stack(rows)


@pytest.fixture
def pool() -> Tensor:
    return torch.rand(20, 3, 16, 16, generator=seeded(9))


@pytest.mark.parametrize(
    ("k", "lam", "of"), [(2, 1.0, "probabilities"), (4, 2.5, "logits"), (3, 0.5, "probabilities")]
)
@pytest.mark.parametrize("name", ["tiny", "lenet"])
def test_is_the_formula(
    network: Network, images: Tensor, pool: Tensor, name: str, k: int, lam: float, of: str
) -> None:
    model = network(name).double()
    x, pool = images.double(), pool.double()
    expected = by_the_formula(model, x, pool, k, 5, lam, of, seed=3)
    got = ev.sum_predict(model, x, pool, k, 5, weight=lam, of=of, generator=seeded())
    torch.testing.assert_close(got.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    module = ev.TestTimeSum(model, pool, k, 5, lam, of=of, generator=seeded())(x)
    torch.testing.assert_close(
        (module if of == "logits" else module.exp()).double(), expected, rtol=1e-5, atol=1e-6
    )


def test_gradient_is_that_of_the_formula(network: Network, images: Tensor, pool: Tensor) -> None:
    model, x = network("tiny").double(), images[:3].double()
    by_hand = x.clone().requires_grad_()
    by_the_formula(model, by_hand, pool.double(), 4, 6, 1.0, "probabilities", 3).log()[:, 1].sum().backward()
    for chunk in (512, 6, 2):  # at once, copies apart, images apart
        ours = x.clone().requires_grad_()
        ev.TestTimeSum(model, pool.double(), 4, 6, chunk=chunk, generator=seeded())(ours)[:, 1].sum().backward()
        torch.testing.assert_close(ours.grad, by_hand.grad, rtol=1e-4, atol=1e-8)


def test_log_probabilities_keep_gradients_where_probabilities_vanish() -> None:
    model = linear(torch.tensor([[400.0, 0.0], [0.0, 0.0]]))
    x = torch.tensor([[1.0, 0.0]], requires_grad=True)
    output = ev.TestTimeSum(model, torch.ones(2, 2), k=2, copies=3)(x)
    assert output[0, 1].item() == pytest.approx(-400.0, rel=1e-4)  # float32 knows no exp(-400)
    output[0, 1].backward()
    assert x.grad is not None
    assert x.grad[0, 0].item() == pytest.approx(-200.0, rel=1e-4)


@pytest.mark.parametrize("make", ["sums", "inference"])
def test_chunks_bound_the_batch_and_change_nothing(
    network: Network, images: Tensor, pool: Tensor, make: str
) -> None:
    model, largest = network("tiny"), []
    results = []
    for chunk in (5, 12, 40, 10_000):
        if make == "sums":
            defence = ev.TestTimeSum(model, pool, 3, 7, chunk=chunk, generator=seeded())
        else:
            defence = ev.MixupInference(
                model, pool, torch.arange(20) % 6, copies=7, chunk=chunk, generator=seeded()
            )
        sizes: list[int] = []
        handle = model.register_forward_pre_hook(lambda _, args, sizes=sizes: sizes.append(len(args[0])))
        with torch.no_grad():
            results.append(defence(images))
        handle.remove()
        largest.append(max(sizes))
    assert largest == [5, 12, 36, 84]  # at most the chunk, and as many whole copies as it holds
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-5)


def test_memory_of_a_gradient_does_not_grow_with_copies(network: Network, images: Tensor, pool: Tensor) -> None:
    model = network("tiny")

    def kept(copies: int, chunk: int) -> int:
        total = 0

        def pack(t: Tensor) -> Tensor:
            nonlocal total
            total += t.nbytes
            return t

        x = images.clone().requires_grad_()
        defence = ev.TestTimeSum(model, pool, 2, copies, chunk=chunk, generator=seeded())
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            defence(x)
        return total

    one, many = kept(1, 12), kept(32, 12)
    assert many < one < kept(32, 1000)


def test_partners_are_uniform_independent_and_fresh() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    pool = torch.eye(10)
    defence = ev.TestTimeSum(Spy(), pool, k=2, copies=50, chunk=10_000)
    for _ in range(2):
        defence(torch.zeros(40, 10))
    first, second = (s.argmax(1).view(50, 40) for s in seen)
    assert not torch.equal(first, second)  # drawn anew at every call
    counts = torch.cat([first, second]).flatten().bincount(minlength=10)
    assert counts.sum() == 4000
    assert ((counts - 400).abs() < 5 * math.sqrt(4000 * 0.1 * 0.9)).all()
    for together in (first[0] == first[1], first[:, 0] == first[:, 1]):  # other copies, other images
        assert together.double().mean() < 0.4
    assert torch.equal(seen[0].sum(1), torch.full((2000,), 0.5))  # the partner's weight 1 / (1 + k - 1)


def test_many_copies_approach_the_expectation() -> None:
    pool = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    x = torch.tensor([[1.0, 1.0]])
    expected = torch.stack([((x[0] * 2 + p) / 3).softmax(0) for p in pool]).mean(0)
    got = ev.sum_predict(nn.Identity(), x, pool, 2, 20_000, weight=2.0, chunk=1000)
    torch.testing.assert_close(got[0], expected, rtol=0, atol=0.005)


def test_loaders_progress_and_mode(network: Network, images: Tensor, pool: Tensor) -> None:
    model = network("tiny").train()
    model.norm.eval()
    whole = [ev.sum_predict(model, part, pool, 2, 3, generator=g) for g in [seeded()] for part in images.split(5)]
    steps: list[int] = []
    loader = [(part, torch.zeros(len(part))) for part in images.split(5)]
    got = ev.sum_predict(model, loader, pool, 2, 3, generator=seeded(), chunk=4, progress=steps.append)
    torch.testing.assert_close(got, torch.cat(whole), rtol=1e-4, atol=1e-5)
    assert sum(steps) == 12 * 3
    assert max(steps) <= 4
    assert model.training
    assert not model.norm.training  # every module's own mode
    torch.testing.assert_close(got.sum(1), torch.ones(12))


def test_curves_are_the_predictions(network: Network, images: Tensor, labels: Tensor, pool: Tensor) -> None:
    model = network("tiny")
    y = ev.predict_logits(model, images).argmax(1)  # so that accuracies are not chance
    curve = ev.accuracy_by_copies(
        ev.TestTimeSum(model, pool, 3, generator=seeded(), chunk=30), images, y, (8, 1, 3)
    )
    for copies, accuracy in curve.items():
        predicted = ev.sum_predict(model, images, pool, 3, copies, generator=seeded()).argmax(1)
        assert accuracy == (predicted == y).double().mean().item()
    assert list(curve) == [1, 3, 8]
    defence = ev.TestTimeSum(model, pool, 3, 4, generator=seeded())
    for weight, accuracy in ev.accuracy_by_weight(defence, images, y, (0.1, 1.0, 1000.0)).items():
        predicted = ev.sum_predict(model, images, pool, 3, 4, weight=weight, generator=seeded()).argmax(1)
        assert accuracy == (predicted == y).double().mean().item()
    assert ev.accuracy_by_weight(defence, images, y, [1e6]) == {1e6: 1.0}  # nothing but the image itself


def test_mixup_inference_draws_from_the_right_classes() -> None:
    classes = torch.tensor([0] * 5 + [1] * 2 + [2] * 9)[torch.randperm(16, generator=seeded())]
    pool = torch.zeros(16, 19)
    pool[torch.arange(16), 3 + torch.arange(16)] = 1.0  # column 3 + j says: sample j
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x[:, :3]

    x = torch.zeros(3, 19)
    x[torch.arange(3), torch.arange(3)] = 1.0  # input i is predicted as class i
    for variant in ("predicted", "other"):
        seen.clear()
        ev.MixupInference(Spy(), pool, classes, variant, lam=0.25, copies=3000, chunk=10_000)(x)
        mixed = seen[-1].view(3000, 3, 19)
        assert torch.equal(mixed[:, 0, 0], torch.full((3000,), 0.25))
        assert torch.equal(mixed[..., 3:].sum(2), torch.full((3000, 3), 0.75))
        drawn = mixed[..., 3:].argmax(2)
        for i in range(3):
            counts = drawn[:, i].bincount(minlength=16).double() / 3000
            of_class = torch.stack([counts[classes == c].sum() for c in range(3)])
            expected = torch.eye(3)[i] if variant == "predicted" else (1 - torch.eye(3)[i]) / 2
            torch.testing.assert_close(of_class.float(), expected, rtol=0, atol=0.05)
            for c in range(3):  # uniform inside a class
                within = counts[classes == c]
                assert (within - within.mean()).abs().max() < 0.06


def test_mixup_inference_is_the_formula() -> None:
    """One sample a class: MI-PL has nothing to draw, MI-OL with two classes neither."""
    pool, x = torch.tensor([[2.0, -1.0], [-1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    own, other = (
        ev.MixupInference(nn.Identity(), pool, torch.arange(2), v, lam=0.6)(x) for v in ("predicted", "other")
    )
    torch.testing.assert_close(own[0], torch.tensor([0.6 + 0.8, -0.4]).log_softmax(0))
    torch.testing.assert_close(other[0], torch.tensor([0.6 - 0.4, 0.8]).log_softmax(0))


def test_bfloat16_and_odd_shapes() -> None:
    pool = torch.rand(5, 4, generator=seeded()).bfloat16()
    out = ev.TestTimeSum(linear(torch.eye(4)[:3]).bfloat16(), pool, 2, 3)(pool[:1])
    assert out.shape == (1, 3)
    torch.testing.assert_close(out.exp().sum(1), torch.ones(1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 1}, "at least 2"),
        ({"k": 21}, "at least k"),
        ({"copies": 0}, "at least 1"),
        ({"chunk": 0}, "at least 1"),
        ({"weight": 0.0}, "above 0"),
        ({"weight": math.nan}, "above 0"),
        ({"of": "votes"}, "probabilities or logits"),
    ],
)
def test_bad_options_are_refused(pool: Tensor, options: dict[str, object], says: str) -> None:
    with pytest.raises(LessonplanError, match=says):
        ev.TestTimeSum(nn.Flatten(), pool, **options)


def test_bad_input_is_refused(pool: Tensor, images: Tensor) -> None:
    defence = ev.TestTimeSum(nn.Flatten(), pool)
    for x in (images[:, :1], images[:0], (images * 255).byte()):
        with pytest.raises(LessonplanError, match="shaped like the pool"):
            defence(x)
    with pytest.raises(LessonplanError, match="floating-point"):
        ev.TestTimeSum(nn.Flatten(), (pool * 255).byte())
    with pytest.raises(LessonplanError, match="no sample of class 1"):
        ev.MixupInference(nn.Flatten(), pool, torch.arange(20) * 2)
    with pytest.raises(LessonplanError, match="as many integer labels"):
        ev.MixupInference(nn.Flatten(), pool, torch.arange(3))
    with pytest.raises(LessonplanError, match="predicted or other"):
        ev.MixupInference(nn.Flatten(), pool, torch.arange(20), "both")
    with pytest.raises(LessonplanError, match="768 outputs"):
        ev.MixupInference(nn.Flatten(), pool, torch.arange(20))(images)
    with pytest.raises(LessonplanError, match="at least one batch"):
        ev.sum_predict(nn.Flatten(), [], pool)
