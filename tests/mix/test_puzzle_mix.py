"""Puzzle Mix as a whole: gradients, labels, fallbacks, errors, and what it leaves alone."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.mix import Choice, Mixup, Network, Probability, PuzzleMix, Until, parse_mix
from lessonplan.mix.puzzle.adversarial import adversarial_noise
from lessonplan.mix.puzzle.assemble import Weights, puzzle
from lessonplan.mix.puzzle.saliency import input_gradient, saliency_map

CLASSES = 4


def net(channels=3, dropout=0.0, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(96, CLASSES),
        )


def batch(n=6, channels=3, height=8, width=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, height, width, generator=g), torch.randint(CLASSES, (n,), generator=g)


def make(model, **options):
    return PuzzleMix(num_classes=CLASSES, model=model, **{"seed": 0, **options})


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 8), (5, 12, 20), (3, 7, 9), (2, 31, 40)])
@pytest.mark.parametrize("labels", [2, 3, 4, 5])
def test_any_image_and_number_of_labels(shape, labels):
    x, y = batch(5, *shape)
    mix = make(net(shape[0]), labels=labels)
    for _ in range(3):
        found, permutation, target = mix.explain(x, y)
        assert found.mixed.shape == x.shape
        levels = found.mask * (labels - 1)
        torch.testing.assert_close(levels, levels.round())
        hot = F.one_hot(y, CLASSES).float()
        share = found.mask.mean((1, 2)).unsqueeze(1)
        torch.testing.assert_close(target, share * hot + (1 - share) * hot[permutation])


def test_without_transport_every_pixel_is_the_masks_mixture():
    x, y = batch()
    mix = make(net(), transport=False)
    found, permutation, _ = mix.explain(x, y)
    z = found.mask.unsqueeze(1)
    torch.testing.assert_close(found.mixed, z * x + (1 - z) * x[permutation])
    assert 0 < found.mask.mean() < 1


def test_transport_only_moves_blocks():
    x, _ = batch(8, height=16, width=16)
    saliency = torch.rand(2, 8, 16, 16, generator=torch.Generator().manual_seed(2)) ** 8
    pair = x, x.roll(1, 0)
    found = puzzle(pair, (saliency[0], saliency[1]), torch.tensor(0.5), 4, labels=2, weights=Weights(xi=0.001))
    for moved, image in zip(found.moved, pair, strict=True):
        assert not torch.equal(moved, image)
        torch.testing.assert_close(moved.flatten(2).sort(2).values, image.flatten(2).sort(2).values)


def test_the_salient_half_of_each_image_is_kept():
    left, right = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    left[..., :4] = right[..., 4:] = 1.0
    x1, x2 = torch.full((1, 3, 8, 8), 1.0), torch.full((1, 3, 8, 8), -1.0)
    found = puzzle(
        (x1, x2), (left, right), torch.tensor(0.5), 4, weights=Weights(beta=0.1), span=torch.ones(1, 3, 1, 1)
    )
    assert torch.equal(found.mask[0], left[0])
    assert torch.equal(found.mixed[0, 0], 2 * left[0] - 1)
    assert found.share.item() == 0.5


def test_lambda_moves_the_mask():
    x, _ = batch(20, height=16, width=16)
    saliency = torch.rand(20, 16, 16, generator=torch.Generator().manual_seed(1))
    pair, known = (x, x.roll(1, 0)), (saliency, saliency.roll(1, 0))
    shares = [puzzle(pair, known, torch.tensor(lam), 8).share.mean().item() for lam in (0.05, 0.5, 0.95)]
    assert shares[0] < 0.2
    assert abs(shares[1] - 0.5) < 0.1
    assert shares[2] > 0.8


def test_saliency_is_the_gradient_of_each_samples_own_loss():
    model, (x, y) = net().eval(), batch()
    hot = F.one_hot(y, CLASSES).float()
    found = saliency_map(input_gradient(Network(model), x, hot))
    for i in range(len(x)):
        leaf = x[i : i + 1].clone().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(leaf), y[i : i + 1]), leaf)
        torch.testing.assert_close(found[i] * len(x), (grad**2).mean(1).sqrt()[0])


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_clean_gradients_are_those_of_three_separate_passes(weight):
    """Lecture: grad L(mix) + weight / 2 (grad L(x1) + grad L(x2))."""
    model, (x, y) = net(), batch()
    mix = make(model, clean_weight=weight)
    other = copy.deepcopy(mix)
    other.attach(Network(copy.deepcopy(model)))
    _, permutation, _ = other.explain(x, y)
    mixed, target = mix(x, y)
    F.cross_entropy(model(mixed), target).backward()
    parts = []
    for inputs, labels in ((mixed, target), (x, y), (x[permutation], y[permutation])):
        parts.append(torch.autograd.grad(F.cross_entropy(model(inputs), labels), list(model.parameters())))
    for parameter, whole, first, second in zip(model.parameters(), *parts, strict=True):
        torch.testing.assert_close(parameter.grad, whole + weight / 2 * (first + second), rtol=1e-4, atol=1e-6)


def test_looking_leaves_the_network_as_it_was():
    model = net(dropout=0.5)
    model[0].weight.requires_grad_(False)
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    mix = make(model)
    mix(*batch())
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()][:2] == [False, True]
    assert [m.training for m in model] == [True, True, True, False, True, True, True]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_no_weight_gradients_are_computed():
    """A weight's gradient would run through this function's backward."""
    computed = []

    class Watch(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight):
            return weight.clone()

        @staticmethod
        def backward(ctx, grad):
            computed.append(1)
            return grad

    class Layer(nn.Linear):
        def forward(self, x):
            return F.linear(x.flatten(1), Watch.apply(self.weight))

    x, y = batch()
    make(Layer(192, CLASSES))(x, y)
    assert not computed
    make(Layer(192, CLASSES), clean_weight=1.0)(x, y)
    assert computed


def test_non_finite_saliency_is_interpolated_and_counted():
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net().eval()

        def forward(self, x):
            out = self.inner(x)
            return out * torch.where(x[:, :1, 0, 0] > 50, torch.inf, 1.0)

    x, y = batch()
    x[2, :, 0, 0] = 100.0
    mix = make(Breaks(), blocks=(4,))
    found, permutation, _ = mix.explain(x, y)
    # The partner of sample 2 is lost as well: both need a saliency.
    expected = (torch.arange(6) == 2) | (permutation == 2)
    assert torch.equal(found.lost, expected)
    i = int(expected.nonzero()[0])
    lam = found.share[i]
    torch.testing.assert_close(found.mixed[i], lam * x[i] + (1 - lam) * x[permutation[i]])
    assert found.mixed.isfinite().all()
    assert mix.describe() == {"interpolated": int(expected.sum())}
    again = make(net())
    again.load_state_dict(mix.state_dict())
    assert again.describe() == mix.describe()


def test_attack_steps_stay_within_eps_of_the_images():
    x, y = batch()
    span = x.amax((0, 2, 3), keepdim=True) - x.amin((0, 2, 3), keepdim=True)
    mix = make(net(), adversarial_p=1.0, eps=10.0, transport=False)
    seen = False
    for _ in range(3):
        found, permutation, _ = mix.explain(x, y)
        for moved, image in zip(found.moved, (x, x[permutation]), strict=True):
            change = ((moved - image).abs() / span * 255).amax()
            assert change <= 10.001
            seen |= bool(change > 1)
    assert seen


def test_the_way_from_black_to_white_may_be_given():
    """An attack of 51 / 255 of it, or less: 0.02 where it is said to be 0.1, whatever the batch spans."""
    x, y = batch()
    mix = make(net(), adversarial_p=1.0, eps=51.0, pixel_range=0.1, transport=False)
    largest = [float((mix.explain(x, y)[0].moved[0] - x).abs().max()) for _ in range(20)]
    assert 0.01 < max(largest) < 0.0201


def test_attacked_images_stay_within_each_channels_colours():
    """Also an image that has none of them, and channels that have no colour in common."""
    x, y = batch()
    x = x * torch.tensor([1.0, 1.0, 0.1]).view(3, 1, 1) + torch.tensor([0.0, 20.0, -20.0]).view(3, 1, 1)
    mix = make(net(), adversarial_p=1.0, eps=250.0, transport=False)
    lowest, highest = x.amin((0, 2, 3)), x.amax((0, 2, 3))
    for _ in range(3):
        for moved in mix.explain(x, y)[0].moved:
            assert (moved.amin((0, 2, 3)) >= lowest).all()
            assert (moved.amax((0, 2, 3)) <= highest).all()
            assert not torch.isin(moved, x).all()


def test_the_continuation_of_an_image_is_not_salient():
    """3 x 3 pixels as 2 x 2 blocks of 2 x 2: the last blocks have fewer pixels that matter."""
    x, alike = torch.rand(1, 1, 3, 3), torch.ones(1, 3, 3)
    found = puzzle((x, x), (alike, alike), torch.tensor(0.5), 2)
    for saliency in found.saliency:
        torch.testing.assert_close(saliency[0], torch.tensor([[4.0, 2.0], [2.0, 1.0]]) / 9)


def test_attacks_raise_the_loss():
    model, (x, y) = net().eval(), batch(16)
    hot = F.one_hot(y, CLASSES).float()
    gradient = input_gradient(Network(model), x, hot)
    noise = adversarial_noise(torch.zeros_like(x), gradient, 10.0, torch.full((1, 3, 1, 1), 0.02))
    with torch.no_grad():
        assert F.cross_entropy(model(x + noise), y) > F.cross_entropy(model(x), y)
        assert F.cross_entropy(model(x - noise), y) < F.cross_entropy(model(x), y)


def test_passes_are_reported_once_and_through_wrappers():
    x, y = batch(6)
    for clean, cost in ((0.0, 12), (1.0, 18)):
        inner = make(net(), clean_weight=clean)
        mix = Until(Probability(Choice([inner]), p=1.0), "80%")
        mix(x, y)
        assert mix.take_passes() == (6, cost, 6, 6)
        assert mix.take_passes() == (0, 0, 0, 0)
        mix.advance(0.9)
        mix(x, y)
        assert mix.take_passes() == (0, 0, 0, 0)


def test_training_counts_the_extra_passes_and_finishes():
    counts = {}
    for text in ("none", "puzzle", "puzzle:clean_weight=1", "puzzle|mixup"):
        result = lp.fit("fcnet-8", "digits", text, "3 steps", batch_size=50, threads=1).result
        counts[text] = result["samples"], result["cost"], result["raw_samples"]
    raw = counts["none"][2]
    assert counts["none"] == (raw, 3 * raw, raw)
    assert counts["puzzle"] == (2 * raw, 5 * raw, raw)
    assert counts["puzzle:clean_weight=1"] == (2 * raw, 6 * raw, raw)


@pytest.mark.parametrize(
    "settings", [{"precision": "bf16"}, {"channels_last": True, "ema": 0.9}, {"loss": "sum-bce"}]
)
def test_training_with_other_settings(settings):
    run = lp.fit("tiny", "digits", "puzzle:clean_weight=0.5,adversarial_p=0.5", "3 steps", threads=1, **settings)
    assert run.history[-1]["mix"] == {"interpolated": 0}


def test_a_resumed_run_is_the_same_run(tmp_path):
    class Stop(lp.Callback):
        def on_batch_end(self, trainer):
            if trainer.counters.steps == 3:
                raise KeyboardInterrupt

    options = {"seed": 3, "threads": 1, "batch_size": 50, "checkpoint_every": "1 steps"}
    whole = lp.fit("fcnet-8", "digits", "puzzle", "6 steps", **options)
    with pytest.raises(KeyboardInterrupt):
        lp.fit("fcnet-8", "digits", "puzzle", "6 steps", out=tmp_path / "run", callbacks=[Stop()], **options)
    rest = lp.fit("fcnet-8", "digits", "puzzle", "6 steps", out=tmp_path / "run", **options)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name])


def test_copies_do_not_take_the_loops_network_along():
    mix = PuzzleMix(num_classes=CLASSES)
    mix.attach(Network(net()))
    for copied in (copy.deepcopy(mix), pickle.loads(pickle.dumps(mix))):
        with pytest.raises(ConfigError, match="works with the network"):
            copied(*batch())
    mix(*batch())


def test_clear_errors():
    x, y = batch()
    with pytest.raises(ConfigError, match="works with the network"):
        PuzzleMix(num_classes=CLASSES)(x, y)
    with pytest.raises(ConfigError, match="3 x 3 pixels cannot be cut into 4 x 4"):
        make(net(), blocks=(4, 8))(x[..., :3, :3], y)
    with pytest.raises(ConfigError, match="images into blocks"):
        make(net())(x.flatten(1), y)
    with torch.inference_mode(), pytest.raises(ConfigError, match="inference mode"):
        make(net())(x, y)
    with pytest.raises(ConfigError, match="carries no gradient"):
        make(_Silent())(x, y)
    with torch.no_grad():  # the mix needs gradients for itself only
        make(net())(x, y)
    for options in ({"alpha": 0}, {"labels": 6}, {"labels": 1}, {"blocks": ()}, {"blocks": (1,)}, {"eta": -1}):
        with pytest.raises(ConfigError):
            PuzzleMix(**options)
    for options in ({"adversarial_p": 1.5}, {"eps": 0}, {"pixel_range": 0.0}, {"clean_weight": -0.1}):
        with pytest.raises(ConfigError):
            PuzzleMix(**options)


class _Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    @torch.no_grad()
    def forward(self, x):
        return self.inner(x)


def test_text_makes_it_and_its_identity_leaves_the_network_out():
    mix = parse_mix("puzzle:labels=4,blocks=4/8,clean_weight=1,transport=false")
    assert (mix.labels, mix.blocks, mix.clean_weight, mix.transport) == (4, (4, 8), 1.0, False)
    mix.attach(Network(net()))
    assert mix.config() == {
        "name": "puzzle",
        "labels": 4,
        "blocks": [4, 8],
        "clean_weight": 1.0,
        "transport": False,
    }
    for options in ({}, {"loss": F.cross_entropy}):
        assert make(net(), **options).config() == {"name": "puzzle", "num_classes": CLASSES, "seed": 0}
    with pytest.raises(ConfigError, match="unknown option"):
        parse_mix("puzzle:model=x")


def test_shares_follow_alpha():
    """With a strong prior the mask is the prior's mode, which a uniform lambda spreads over five levels alike."""
    x, y = batch(4)
    mix = make(net(), eta=50.0, blocks=(2,), labels=5)
    shares = torch.cat([mix.explain(x, y)[0].share for _ in range(120)])
    assert abs(shares.mean() - 0.5) < 0.07
    assert abs(shares.var() - 1 / 8) < 0.03
    assert isinstance(Mixup(), lp.mix.Mix)


@pytest.mark.parametrize("blocks", ["inf", "nan", "2/inf", "2.5", "1"])
def test_sizes_that_are_no_whole_numbers_are_refused(blocks):
    with pytest.raises(ConfigError, match="give whole numbers of at least 2"):
        lp.mix.parse_mix(f"puzzle:blocks={blocks}")
