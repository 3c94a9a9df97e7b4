"""Manifold mixup: which layer is mixed and how, and that no hook stays behind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import oracle
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.mix import Choice, ManifoldMixup, Network, Probability, Until, parse_mix
from lessonplan.models import build_model


class Net(nn.Module):
    """Two layers that can be mixed, one that takes no part."""

    stage_names = ("first", "second", "third")

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 4)
        self.third = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))


def setup(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net()
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    return model, x, y, ManifoldMixup(num_classes=3, model=model, seed=0, **options)


def drawn_layers(mix, model, x=None):
    """Where 30 batches are mixed."""
    x, inside = torch.randn(2, 5) if x is None else x, set()
    for _ in range(30):
        mixed, _ = mix(x, torch.tensor([0, 1]))
        inside.add(mix._pending.layer if mix._pending is not None else "input")
        with mix.forward_context():
            model(mixed)
    return inside


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("layer", ["first", "second"])
def test_hidden_states_are_mixed_as_the_labels_are(layer, k):
    """Soft one-hot targets of distinct samples give the coefficients; the layer's output must follow them."""
    model, x, _, mix = setup(layers=(layer,), k=k)
    identity = torch.eye(6)
    out, coefficients = mix(x, identity)
    assert torch.equal(out, x)
    with mix.forward_context():
        logits = model(out)
    hidden = model.first(x)
    if layer == "first":
        expected = model.third(torch.tanh(model.second(torch.tanh(coefficients @ hidden))))
    else:
        expected = model.third(torch.tanh(coefficients @ model.second(torch.tanh(hidden))))
    torch.testing.assert_close(logits, expected)
    assert not torch.allclose(coefficients, identity)
    torch.testing.assert_close(coefficients.sum(1), torch.ones(6))
    assert (coefficients > 0).sum(1).max() <= k


def test_the_input_is_mixed_like_mixup():
    _, x, _, mix = setup(layers=("input",))
    mixed, coefficients = mix(x, torch.eye(6))
    torch.testing.assert_close(mixed, coefficients @ x)
    model = mix.network.module
    with mix.forward_context():
        torch.testing.assert_close(model(mixed), model(coefficients @ x))


def test_default_layers_are_drawn_alike():
    model, x, y, mix = setup()
    counts = {"input": 0, "first": 0, "second": 0}
    for _ in range(300):
        mixed, _ = mix(x, y)
        counts[mix._pending.layer if mix._pending is not None else "input"] += 1
        with mix.forward_context():
            model(mixed)
    assert min(counts.values()) > 70


def test_gradients_flow_through_the_mixture():
    model, x, y, mix = setup(layers=("first",))
    out, target = mix(x, y)
    with mix.forward_context():
        F.cross_entropy(model(out), target).backward()
    assert model.first.weight.grad.abs().sum() > 0


def test_no_hook_stays_behind():
    model, x, y, mix = setup(layers=("first",))
    mix(x, y)
    with mix.forward_context():
        assert hooks(model) == 1
        model(x)
    assert hooks(model) == 0
    clean = model(x)
    mix(x, y)
    with pytest.raises(ZeroDivisionError), mix.forward_context():
        raise ZeroDivisionError
    assert hooks(model) == 0
    torch.testing.assert_close(model(x), clean)


def test_a_context_without_a_batch_does_nothing():
    model, x, _, mix = setup(layers=("first",))
    with mix.forward_context():
        torch.testing.assert_close(model(x), model(x))


def test_a_layer_used_twice_is_mixed_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = Twice()
    x = torch.randn(4, 5)
    mix = ManifoldMixup(num_classes=4, model=model, layers=["layer"], seed=1)
    _, coefficients = mix(x, torch.eye(4))
    with mix.forward_context():
        out = model(x)
    torch.testing.assert_close(out, model.layer(coefficients @ model.layer(x)))


def test_clear_errors():
    model, x, y, _ = setup()
    with pytest.raises(ConfigError, match="unknown layer 'frist': did you mean 'first'"):
        ManifoldMixup(model=model, layers=["frist"])
    with pytest.raises(ConfigError, match="does not name its stages"):
        ManifoldMixup(model=nn.Linear(5, 3))
    mix = ManifoldMixup(num_classes=3, model=model, layers=["unused"])
    mix(x, y)
    with pytest.raises(ConfigError, match="took no part"), mix.forward_context():
        model(x)
    mix = ManifoldMixup(num_classes=3, model=model, layers=["first"])
    mix(x, y)
    model(x)
    with pytest.raises(ConfigError, match="outside of the mix"):
        mix(x, y)
    mix(x, y)  # and works again
    with pytest.raises(ConfigError, match="6 samples are to be mixed"), mix.forward_context():
        model(x[:3])
    with pytest.raises(ConfigError, match="works with the network"):
        ManifoldMixup(num_classes=3)(x, y)
    with pytest.raises(ConfigError, match="batch of 6"):
        ManifoldMixup(num_classes=3, model=model, k=7).rehearse(x, y)
    for options in ({"alpha": 0}, {"k": 1}, {"layers": ()}):
        with pytest.raises(ConfigError):
            ManifoldMixup(**options)


def test_wrappers_pass_the_context_on():
    model, x, _, inner = setup(layers=("first",))
    mix = Until(Probability(Choice([inner]), p=1.0), "50%")
    _, coefficients = mix(x, torch.eye(6))
    with mix.forward_context():
        mixed = model(x)
    expected = model.third(torch.tanh(model.second(torch.tanh(coefficients @ model.first(x)))))
    torch.testing.assert_close(mixed, expected)


def test_a_compiled_network_is_mixed_too():
    model, x, _, mix = setup(layers=("first",))
    compiled = torch.compile(model, backend="eager")
    clean = compiled(x)
    _, coefficients = mix(x, torch.eye(6))
    with mix.forward_context():
        mixed = compiled(x)
    expected = model.third(torch.tanh(model.second(torch.tanh(coefficients @ model.first(x)))))
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(compiled(x), clean)


def test_under_autocast():
    model, x, y, mix = setup(layers=("first",))
    out, _ = mix(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16), mix.forward_context():
        assert model(out).dtype == torch.bfloat16


@pytest.mark.parametrize("text", ["manifold", "manifold:k=3,layers=stage1/stage3", "manifold:until=50%"])
def test_training(text):
    run = lp.fit("tiny", "digits", text, "6 steps", threads=1, batch_size=20)
    assert run.result["samples"] == run.result["raw_samples"]
    assert hooks(run.model) == 0


def test_an_unknown_layer_stops_the_run_at_once():
    with pytest.raises(ConfigError, match="unknown layer 'stag1'"):
        lp.fit("tiny", "digits", "manifold:layers=stag1", "2 steps", threads=1)


def test_text_makes_it():
    mix = parse_mix("manifold:alpha=0.5,layers=input/stage1,k=3")
    assert (mix.alpha, mix.layers, mix.k) == (0.5, ("input", "stage1"), 3)
    assert mix.config() == {"name": "manifold", "alpha": 0.5, "layers": ["input", "stage1"], "k": 3}


def test_stages_named_as_timm_names_them():
    """Without timm: a list of what each stage is, in the order of the network."""

    class Stages(Net):
        stage_names = None
        feature_info = [{"num_chs": 7, "module": "first"}, {"module": "second"}, {"module": "third"}]  # noqa: RUF012

    model, mix = Stages(), ManifoldMixup(num_classes=3, seed=0)
    mix.attach(Network(model))
    assert drawn_layers(mix, model) == {"input", "first", "second"}


def test_stages_of_a_network_of_timm():
    """What timm names as its first two stages is mixed, and so the logits of a batch of two are known."""
    oracle("timm")
    model = build_model("timm:test_resnet", shape=(3, 32, 32), num_classes=4).eval()
    mix = lp.mix.ManifoldMixup(num_classes=4, model=model, layers=None)
    stages = ["input", *(entry["module"] for entry in model.feature_info[:2])]
    assert drawn_layers(mix, model, torch.randn(2, 3, 32, 32)) == set(stages)
