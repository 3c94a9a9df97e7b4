"""Distances to class embeddings against plain Python, and what is trained, shared or fixed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.ideas import EmbeddingTarget


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("classes", [3, 60])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_logits_are_negative_distances(classes, temperature):
    e, z = draw(classes, 5), draw(4, 5, seed=1)
    layer = EmbeddingTarget(classes, 5, embeddings=e, temperature=temperature)
    expected = [[-math.dist(a, b) / temperature for b in e.tolist()] for a in z.tolist()]
    torch.testing.assert_close(layer(z), torch.tensor(expected, dtype=torch.float64))


def test_probabilities_by_hand():
    """Distances 0 and ln 3: probabilities 3/4 and 1/4."""
    layer = EmbeddingTarget(2, 1, embeddings=torch.tensor([[0.0], [math.log(3.0)]]))
    torch.testing.assert_close(layer(torch.zeros(1, 1)).softmax(1), torch.tensor([[0.75, 0.25]]))


def test_small_distances_far_from_the_origin_keep_their_digits():
    e = 1000.0 + torch.arange(40.0)[:, None] * 1e-2
    found = EmbeddingTarget(40, 1, embeddings=e)(e[:1])
    torch.testing.assert_close(found, (e[0] - e).abs().neg().view(1, 40), atol=1e-6, rtol=1e-4)


def test_turning_and_moving_everything_changes_nothing():
    e, z = draw(6, 4), draw(3, 4, seed=1)
    turn, shift = torch.linalg.qr(draw(4, 4, seed=2)).Q, draw(4, seed=3)
    moved = EmbeddingTarget(6, 4, embeddings=e @ turn + shift)(z @ turn + shift)
    torch.testing.assert_close(moved, EmbeddingTarget(6, 4, embeddings=e)(z))


def test_sequences_and_single_embeddings():
    layer = EmbeddingTarget(6, 4, embeddings=draw(6, 4))
    z = draw(2, 3, 4, seed=1)
    assert layer(z).shape == (2, 3, 6)
    torch.testing.assert_close(layer(z)[1, 2], layer(z[1, 2]))
    assert layer(z[:0]).shape == (0, 3, 6)


def test_gradient_by_finite_differences_and_at_a_class_embedding():
    layer = EmbeddingTarget(3, 2, embeddings=nn.Parameter(draw(3, 2)))
    z = draw(4, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(layer, (z,))
    at = layer.embeddings.detach()[:1].clone().requires_grad_()
    F.cross_entropy(layer(at), torch.tensor([0])).backward()
    assert torch.isfinite(at.grad).all()
    assert torch.isfinite(layer.embeddings.grad).all()


def test_drawn_embeddings_are_trained_and_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    a, b, c = (EmbeddingTarget(10, 200, seed=s).embeddings for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert isinstance(a, nn.Parameter)
    assert a.std().item() == pytest.approx(1.0, abs=0.1)


def test_a_parameter_is_shared_and_a_tensor_is_fixed():
    table = nn.Embedding(5, 3)
    assert EmbeddingTarget(5, 3, embeddings=table.weight).embeddings is table.weight
    vectors = draw(5, 3)
    layer = EmbeddingTarget(5, 3, embeddings=vectors)
    assert list(layer.parameters()) == []
    kept = vectors.clone()
    vectors.zero_()
    assert torch.equal(layer.state_dict()["embeddings"], kept)


def test_training_brings_outputs_to_their_class():
    layer = EmbeddingTarget(3, 2, embeddings=torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
    z = torch.full((3, 2), 1.5).requires_grad_()
    optimizer = torch.optim.SGD([z], lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(layer(z), torch.arange(3)).backward()
        optimizer.step()
    assert torch.equal(layer(z).argmax(1), torch.arange(3))
    assert (z[0] - layer.embeddings[0]).norm() < 0.3


def test_no_output_is_more_probable_than_the_class_embedding_itself():
    e = draw(5, 3)
    layer = EmbeddingTarget(5, 3, embeddings=e, temperature=0.7)
    best = layer(e).softmax(1).diagonal()
    torch.testing.assert_close(best, 1 / torch.exp(-torch.cdist(e, e) / 0.7).sum(1))
    anywhere = 3 * draw(4000, 3, seed=1)
    assert (layer(anywhere).softmax(1).amax(0) <= best).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_classes": 1}, "at least 2"),
        ({"features": 0}, "features=0"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": math.nan}, "above 0"),
        ({"embeddings": torch.zeros(3, 5)}, r"\(4, 5\)"),
        ({"embeddings": torch.zeros(4, 5, dtype=torch.int64)}, "floats"),
    ],
)
def test_settings_that_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        EmbeddingTarget(**{"num_classes": 4, "features": 5, **options})


def test_inputs_that_are_refused():
    with pytest.raises(ConfigError, match=r"\(..., 5\)"):
        EmbeddingTarget(4, 5)(torch.zeros(2, 4))
