"""Maximum loss delta against brute force with copies of the network, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lessonplan.batch import Batch
from lessonplan.errors import ConfigError, DataError
from lessonplan.network.learner import Learner
from lessonplan.network.network import Network, soft_cross_entropy
from lessonplan.order import LossDelta
from lessonplan.order.lookahead.anchor import Anchor
from lessonplan.order.lookahead.exact import Exact
from lessonplan.order.lookahead.fidelity import Fidelity, rank_correlation
from lessonplan.order.lookahead.gradients import step_scales
from lessonplan.order.lookahead.look import Goal
from lessonplan.order.lookahead.stacked import StackedLookAhead
from lessonplan.parts.part import Occasion

CHEAP = ("first-order", "last-layers", "kept-gradients", "per-sample")


def make(**options):
    options = {"candidates": 4, "external": 20, **options}
    if options.get("method") in CHEAP:
        options.setdefault("on", "external")
    return LossDelta(**options)


def candidates(run, count=4, size=6):
    parts = torch.randperm(48, generator=torch.Generator().manual_seed(9)).split(size)[:count]
    return [Batch(p, torch.zeros(len(p), dtype=torch.int64)) for p in parts]


@pytest.mark.parametrize("on", ["same", "external", "relative"])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_exact_gains_are_those_of_copies(loop, losses_after, on, optimizer, norm):
    run = loop(None, norm=norm, optimizer=optimizer).run(stop=5)
    batches, outside = candidates(run), run.validation.fetch(torch.arange(20))
    look = Exact(run.learner, run.data).look(batches, Goal(on, outside if on == "external" else None))
    for place, batch in enumerate(batches):
        x, y = outside if on == "external" else run.data.fetch(batch.indices)
        before, after = losses_after(run, batch.indices, x, y, size=6)
        assert look.gains[place].item() == pytest.approx(before - after, abs=1e-5)
        score = (before - after) / before if on == "relative" else before - after
        assert look.scores[place].item() == pytest.approx(score, abs=1e-5)


def test_weights_count_in_the_update_and_in_the_own_loss(loop, losses_after):
    weights = torch.rand(48, generator=torch.Generator().manual_seed(1)) * 3
    run = loop(None).run(stop=3)
    for on in ("same", "external"):
        outside = run.validation.fetch(torch.arange(20)) if on == "external" else None
        batches = [Batch(b.indices, b.epochs, weights[b.indices]) for b in candidates(run)]
        look = Exact(run.learner, run.data).look(batches, Goal(on, outside))
        for place, batch in enumerate(batches):
            x, y = outside if outside is not None else run.data.fetch(batch.indices)
            own = batch.weights
            model_before, _ = losses_after(run, batch.indices, x, y, own if on == "same" else None, size=6)
            del model_before
            if on == "same":
                before, after = losses_after(run, batch.indices, x, y, own)
                assert look.gains[place].item() == pytest.approx(before - after, abs=1e-5)


@pytest.mark.parametrize("on", ["same", "relative"])
def test_own_losses_are_those_without_dropout(loop, losses_after, on):
    """The update drops out, with the mask that any update would draw now; losses before and after do not."""
    run = loop(None, norm="none", dropout=0.5)
    batches = candidates(run)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        look = Exact(run.learner, run.data).look(batches, Goal(on))
        for place, batch in enumerate(batches):
            torch.manual_seed(11)
            before, after = losses_after(run, batch.indices, *run.data.fetch(batch.indices))
            assert look.gains[place].item() == pytest.approx(before - after, abs=1e-5)
            score = (before - after) / before if on == "relative" else before - after
            assert look.scores[place].item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("method", [Exact, StackedLookAhead])
def test_a_step_of_no_length_gains_nothing_whatever_dropout_draws(loop, method):
    """An update takes 3 passes a sample, the loss without dropout one before it and one behind it."""
    run = loop(None, norm="none", dropout=0.5, optimizer="sgd")
    run.learner.optimizer.param_groups[0]["lr"] = 0.0
    look = method(run.learner, run.data).look(candidates(run), Goal("same"))
    assert look.gains.tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    assert look.passes.cost == 4 * 6 * (3 + 1 + 1)


@pytest.mark.parametrize("optimizer", ["nesterov", "adam", "adamw"])
@pytest.mark.parametrize("method", ["exact", *CHEAP])
@pytest.mark.parametrize("final", [False, True])
def test_scoring_leaves_no_trace(loop, same, optimizer, method, final):
    """Training by look-ahead ends where plain training on the same batches in that order ends, bit for bit:
    weights, running statistics, optimizer, random state (dropout reads it), winner's update kept or not.
    """
    order = make(method=method, on="external", winners=2 if method == "last-layers" else 1)
    run = loop(order, optimizer=optimizer, dropout=0.4, final=final).run(2)
    plain = loop(None, optimizer=optimizer, dropout=0.4).replay(run.trained)
    assert same(run.outcome(), plain.outcome())
    for ours, theirs in zip(run.trained, plain.trained, strict=True):
        assert torch.equal(ours.step.logits, theirs.step.logits)
        assert torch.equal(ours.step.losses, theirs.step.losses)
    assert run.indices != loop(None).run(2).indices


@pytest.mark.parametrize("on", ["same", "relative"])
def test_no_trace_on_the_same_batch(loop, same, on):
    run = loop(make(on=on), dropout=0.4, final=True).run(1)
    assert same(run.outcome(), loop(None, dropout=0.4).replay(run.trained).outcome())


def test_autocast_and_a_gradient_scaler(loop, same):
    """Mixed precision: bf16 forward passes, scaled losses, updates that are skipped."""

    def run(order, final=False):
        loops = loop(order, dropout=0.3, final=final)
        model = loops.model

        def forward(x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return model(x)

        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=3)

        def loss(logits, target):
            return 8 * soft_cross_entropy(logits, target)  # overflows with the first scales

        loops.learner = Learner(Network(model, loss, run=forward), loops.learner.optimizer, scaler, clip=1.0)
        if order is not None:
            order.attach(loops.learner)
        return loops, scaler

    for final in (False, True):
        ours, ours_scaler = run(make(on="external"), final)
        ours.run(2)
        plain, plain_scaler = run(None)
        plain.replay(ours.trained)
        assert same(ours.outcome(), plain.outcome())
        assert ours_scaler.state_dict() == plain_scaler.state_dict()
        assert ours_scaler.get_scale() < 2.0**126


@pytest.mark.parametrize("on", ["same", "external", "relative"])
@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_stacked_is_exact(loop, on, optimizer):
    run = loop(None, norm="group", optimizer=optimizer, size=7).run(stop=4)
    weights = torch.rand(48, generator=torch.Generator().manual_seed(1)) + 0.5
    parts = torch.randperm(48, generator=torch.Generator().manual_seed(9)).split([7, 6, 7, 5, 23])[:4]
    batches = [Batch(p, torch.zeros(len(p), dtype=torch.int64), weights[p]) for p in parts]
    outside = run.validation.fetch(torch.arange(20)) if on == "external" else None
    before = [p.clone() for p in run.model.parameters()]
    exact = Exact(run.learner, run.data).look(batches, Goal(on, outside))
    stacked = StackedLookAhead(run.learner, run.data).look(batches, Goal(on, outside))
    torch.testing.assert_close(stacked.gains, exact.gains, atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(stacked.scores, exact.scores, atol=2e-6, rtol=1e-4)
    assert stacked.passes == exact.passes
    assert stacked.step is exact.step is None  # no winner's update was asked for
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_stacked_training_is_that_of_exact(loop):
    runs = [
        loop(make(method=m, on="external"), norm="group", final=f).run(2)
        for m in ("exact", "stacked")
        for f in (0, 1)
    ]
    for run in runs[1:]:
        assert run.indices == runs[0].indices
        torch.testing.assert_close(run.outcome()[0], runs[0].outcome()[0], atol=1e-5, rtol=1e-4)


def test_first_order_is_the_inner_product_at_the_look_ahead_point(loop):
    """Written out for SGD with Nesterov momentum: a step with the mean gradient, then gradients there and here."""
    run = loop(None, norm="group").run(stop=3)
    batches, outside = candidates(run), run.validation.fetch(torch.arange(20))
    order = make(method="first-order")
    order.setup(Occasion(0, run.data, run.validation))
    order.attach(run.learner)
    look = order._looks.look(batches, Goal("external", outside))
    parameters, optimizer = list(run.model.parameters()), run.learner.optimizer

    def grad(x, y):
        return torch.autograd.grad(nn.functional.cross_entropy(run.model(x), y), parameters)

    here = [grad(*run.data.fetch(b.indices)) for b in batches]
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for i, p in enumerate(parameters):
            d = sum(g[i] for g in here) / 4 + 1e-3 * p
            p -= 0.1 * (d + 0.9 * (0.9 * optimizer.state[p]["momentum_buffer"] + d))
    there = grad(*outside)
    for p, value in zip(parameters, kept, strict=True):
        p.data = value
    expected = torch.stack([sum((0.1 * a * b).sum() for a, b in zip(g, there, strict=True)) for g in here])
    torch.testing.assert_close(look.scores, expected, rtol=1e-4, atol=1e-7)


def test_adaptive_steps_are_weighed_by_their_length(loop):
    """After one step with Adam, scores predict the gains of small steps: the products are in Adam's own metric."""
    run = loop(None, norm="group", optimizer="adam").run(stop=8)
    for group in run.learner.optimizer.param_groups:
        group["lr"] = 1e-5
    batches, outside = candidates(run, 8), run.validation.fetch(torch.arange(20))
    order = make(method="first-order")
    order.setup(Occasion(0, run.data, run.validation))
    order.attach(run.learner)
    scores = order._looks.look(batches, Goal("external", outside)).scores
    gains = Exact(run.learner, run.data).look(batches, Goal("external", outside)).gains.double()
    assert rank_correlation(scores, gains) > 0.9


def test_a_unit_of_gradient_moves_a_weight_by_rate_over_root_of_adams_moment():
    """One step with gradients 3 and 4, beta 0.5: moments 4.5 and 8. SGD: the rate; not trained: not at all."""
    a, b, still = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    groups = [{"params": [a], "eps": 0.25}, {"params": [b], "lr": 0.2}]
    adam = torch.optim.Adam(groups, lr=0.1, betas=(0.9, 0.5), eps=1.0)
    adam.step()
    scales = [scale.item() for scale in step_scales(adam, [a, b, still])]
    assert scales == pytest.approx([0.1 / (4.5**0.5 + 0.25), 0.2 / (8**0.5 + 1.0), 0.0])
    sgd = torch.optim.SGD([a, b], lr=0.3)
    assert [scale.item() for scale in step_scales(sgd, [a, b])] == pytest.approx([0.3, 0.3])


def grad(run, x, y, parameters):
    return torch.autograd.grad(nn.functional.cross_entropy(run.model(x), y), parameters)


def dot(a, b):
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))


def stepped(run, gradient):
    """Where SGD would go from here, as parameters; hand-written, without momentum."""
    return [(p - 0.1 * g).detach() for p, g in zip(run.model.parameters(), gradient, strict=True)]


def at(run, place, compute):
    """Something computed with other parameters."""
    kept = [p.detach().clone() for p in run.model.parameters()]
    for p, value in zip(run.model.parameters(), place, strict=True):
        p.data = value
    found = compute()
    for p, value in zip(run.model.parameters(), kept, strict=True):
        p.data = value
    return found


def looking(run, method, **options):
    order = make(method=method, **options)
    order.setup(Occasion(0, run.data, run.validation))
    order.attach(run.learner)
    return order._looks


def test_last_layers_by_hand(loop):
    run = loop(None, norm="group", optimizer="sgd").run(stop=3)
    batches, outside = candidates(run), run.validation.fetch(torch.arange(20))
    parameters = list(run.model.parameters())
    read = [run.data.fetch(b.indices) for b in batches]
    some = [torch.cat([pair[i][:2] for pair in read]) for i in (0, 1)]  # 6 / 4 rounded up
    for layers, last in ((1, parameters[-2:]), (2, parameters[-4:])):
        there = at(run, stepped(run, grad(run, *some, parameters)), lambda last=last: grad(run, *outside, last))
        expected = torch.stack([0.1 * dot(grad(run, *pair, last), there) for pair in read])
        look = looking(run, "last-layers", layers=layers).look(batches, Goal("external", outside))
        torch.testing.assert_close(look.scores, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_per_sample_by_hand(loop, norm):
    """Two looks with an update in between: losses to both sides of the look-ahead point, half an update away."""
    run = loop(None, norm=norm, optimizer="sgd").run(stop=3)
    batches, outside = candidates(run, 3), run.validation.fetch(torch.arange(8))
    parameters, looks = list(run.model.parameters()), looking(run, "per-sample")
    read = [run.data.fetch(b.indices) for b in batches]

    def losses():
        return torch.cat([nn.functional.cross_entropy(run.model(x), y, reduction="none") for x, y in read])

    def gradient(rows):
        return grad(run, outside[0][rows], outside[1][rows], parameters)

    def expected(step, along):
        ahead = stepped(run, step)
        half = 0.5 * (0.1 * dot(step, step).sqrt()) / dot(along, along).sqrt()
        sides = [[p + sign * half * g for p, g in zip(ahead, along, strict=True)] for sign in (1, -1)]
        if norm == "group":  # the difference is the derivative, sample by sample
            own = [at(run, ahead, lambda x=x, y=y: grad(run, x[None], y[None], parameters)) for x, y in rows]
            products = torch.stack([dot(g, along) * 2 * half for g in own])
            found = at(run, sides[0], losses) - at(run, sides[1], losses)
            torch.testing.assert_close(found, products, rtol=0.05, atol=2e-3)
            assert products.abs().max() > 0.05
        return (at(run, sides[0], losses) - at(run, sides[1], losses)).detach()

    rows = [(x, y) for a, b in read for x, y in zip(a, b, strict=True)]
    step = grad(run, *read[0], parameters)
    pieces = [torch.arange(n, n + 2) for n in range(0, 8, 2)]  # a quarter of 6, rounded up
    anchors = [at(run, stepped(run, step), lambda p=p: gradient(p)) for p in pieces]
    whole = [torch.stack(parts).mean(0) for parts in zip(*anchors, strict=True)]
    look = looks.look(batches, Goal("external", outside))
    scores, passes = look.scores, look.passes
    torch.testing.assert_close(scores, expected(step, whole), rtol=1e-3, atol=1e-5)
    assert (passes.samples, passes.cost) == (6 + 8 + 2 * 18, 3 * (6 + 8) + 2 * 18)

    run.update(batches[0])
    now = at(run, stepped(run, whole), lambda: gradient(pieces[1]))
    moved = [w + a - b for w, a, b in zip(whole, now, anchors[1], strict=True)]
    look = looks.look(batches, Goal("external", outside))
    scores, passes = look.scores, look.passes
    torch.testing.assert_close(scores, expected(whole, moved), rtol=1e-3, atol=1e-5)
    assert (passes.samples, passes.cost) == (2 + 2 * 18, 3 * 2 + 2 * 18)


def test_per_sample_counts_weights(loop):
    run = loop(None, norm="group").run(stop=3)
    weights = torch.rand(48, generator=torch.Generator().manual_seed(1)) * 3
    plain, outside = candidates(run, 2), run.validation.fetch(torch.arange(20))
    weighted = [plain[0], Batch(plain[1].indices, plain[1].epochs, weights[plain[1].indices])]
    goal = Goal("external", outside)
    a, b = (looking(run, "per-sample").look(batches, goal).scores for batches in (plain, weighted))
    torch.testing.assert_close(b, torch.cat([a[:6], a[6:] * weighted[1].weights]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("losers", ["return", "drop"])
def test_per_sample_winners_are_the_best_samples(loop, losers):
    """Of two candidates the better half; the others come back once an epoch, or not at all."""
    order = make(method="per-sample", candidates=2, losers=losers)
    seen = []
    original = type(looking(loop(None), "per-sample")).look

    def look(self, batches, goal, *, keep=False):
        found = original(self, batches, goal, keep=keep)
        everything = torch.cat([batch.indices for batch in batches])
        seen.append(set(everything[found.scores.argsort(descending=True)[:6]].tolist()))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lessonplan.order.lookahead.per_sample.PerSample.look", look)
        run = loop(order).run(1)
    alone = 1 if losers == "return" else 0
    assert [set(batch) for batch in run.indices][: len(seen)] == seen
    assert len(run.trained) == len(seen) + alone == (8 if losers == "return" else 4)
    every = sorted(index for batch in run.indices for index in batch)
    assert (every == list(range(48))) if losers == "return" else (len(set(every)) == len(every) == 24)


@pytest.mark.parametrize(
    "options", [{"winners": "all"}, {"candidates": "all"}, {"candidates": "all", "winners": "all"}, {"winners": 3}]
)
def test_per_sample_trains_on_everything_once_an_epoch(loop, options):
    run = loop(make(method="per-sample", **options), size=7).run(2)  # 48 samples in batches of 7 and one of 6
    assert sorted(index for batch in run.indices for index in batch) == sorted(2 * list(range(48)))
    assert sorted(map(len, run.indices)) == [6, 6, *12 * [7]]


@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_per_sample_beats_the_best_of_eight_batches_in_small_steps(loop, optimizer):
    """Where the first order is all there is, samples from two candidates gain more than the best of eight."""
    run = loop(None, norm="group", optimizer=optimizer, train=120).run(stop=8)
    for group in run.learner.optimizer.param_groups:
        group["lr"] = 1e-3
    outside, exact = run.validation.fetch(torch.arange(20)), Exact(run.learner, run.data)
    ours = best = 0.0
    for draw in range(5):
        order = torch.randperm(120, generator=torch.Generator().manual_seed(draw))
        batches = [Batch(part, torch.zeros(len(part), dtype=torch.int64)) for part in order.split(12)]
        scores = looking(run, "per-sample").look(batches[:2], Goal("external", outside)).scores
        winner = Batch.joined(batches[:2], run.data).rows(scores.argsort(descending=True)[:12])
        gains = exact.look([winner, *batches[2:]], Goal("external", outside)).gains
        ours += float(gains[0] - gains[1:].mean())
        best += float(gains[1:].max() - gains[1:].mean())
    assert ours > best > 0


def test_what_requires_gradients_is_as_before(loop):
    run = loop(None).run(stop=1)
    run.model[0].bias.requires_grad_(False)
    before = [p.requires_grad for p in run.model.parameters()]
    looking(run, "last-layers", layers=1).look(
        candidates(run), Goal("external", run.validation.fetch(torch.arange(20)))
    )
    assert [p.requires_grad for p in run.model.parameters()] == before


def test_kept_gradients_by_hand(loop):
    """Two looks with an update in between and one candidate replaced: what is kept, and what is renewed."""
    run = loop(None, norm="group", optimizer="sgd").run(stop=3)
    first, outside = candidates(run, 5), run.validation.fetch(torch.arange(12))
    parameters, looks = list(run.model.parameters()), looking(run, "kept-gradients")
    read = [run.data.fetch(b.indices) for b in first]

    def mean(gradients):
        return [torch.stack(parts).mean(0) for parts in zip(*gradients, strict=True)]

    def plus(a, b, sign=1):
        return [x + sign * y for x, y in zip(a, b, strict=True)]

    def scores(own, along):
        return torch.stack([0.1 * dot(part, along) for part in own])

    then = [grad(run, *pair, parameters) for pair in read[:4]]
    own = [plus(g, mean(then), -1) for g in then]
    anchored = stepped(run, mean(then))
    whole = at(run, anchored, lambda: grad(run, *outside, parameters))
    look = looks.look(first[:4], Goal("external", outside))
    torch.testing.assert_close(look.scores, scores(own, whole), rtol=1e-4, atol=1e-7)

    run.update(first[0])
    # The newcomer's gradient, less the common part of now, which is the external gradient of the look before.
    own = [*own[1:], plus(grad(run, *read[4], parameters), whole, -1)]
    piece = outside[0][3:6], outside[1][3:6]  # half a batch; the second one of four
    ahead = stepped(run, plus(whole, mean(own)))
    now, before = (at(run, place, lambda: grad(run, *piece, parameters)) for place in (ahead, anchored))
    along = plus(whole, plus(now, before, -1))
    expected = scores(own, along)
    front = int(expected[:3].argmax())
    renewed = plus(grad(run, *read[1 + front], parameters), whole, -1)
    assert not torch.isclose(scores([renewed], along)[0], expected[front], rtol=1e-2)
    expected[front] = scores([renewed], along)[0]
    look = looks.look(first[1:], Goal("external", outside))
    torch.testing.assert_close(look.scores, expected, rtol=1e-4, atol=1e-7)


def test_an_anchored_gradient_follows_the_whole_one(loop):
    """Pieces of 3, 3 and 2: exact at the anchor, and nearer to the whole one than theirs behind it."""
    run = loop(None, norm="group", optimizer="sgd").run(stop=3)
    parameters = list(run.model.parameters())
    outside, other = (run.validation.fetch(torch.arange(i, i + 8)) for i in (0, 8))
    anchor = Anchor(run.learner, parameters)
    found, samples = anchor.gradient(outside, 3)
    assert samples == 8
    for a, b in zip(found, grad(run, *outside, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    before = [p.detach().clone() for p in parameters]
    counts, errors, plain = [], [], []
    for part in (slice(3, 6), slice(6, 8), slice(0, 3), slice(3, 6), slice(6, 8)):
        run.update(candidates(run)[len(counts) % 4])
        found, samples = anchor.gradient(outside, 3)
        counts.append(samples)
        whole, piece = (grad(run, outside[0][i], outside[1][i], parameters) for i in (slice(None), part))
        then = at(run, before, lambda part=part: grad(run, outside[0][part], outside[1][part], parameters))
        old = at(run, before, lambda: grad(run, *outside, parameters))
        for a, b, c, d in zip(found, old, piece, then, strict=True):
            torch.testing.assert_close(a, b + c - d, rtol=1e-4, atol=1e-6)
        errors.append(sum(((a - b) ** 2).sum() for a, b in zip(found, whole, strict=True)))
        plain.append(sum(((a - b) ** 2).sum() for a, b in zip(piece, whole, strict=True)))
    assert counts == [3, 2, 3, 3, 2]
    assert sum(errors) < 0.2 * sum(plain)
    assert anchor.gradient(outside, 3)[1] == 8  # each has been read twice
    assert anchor.gradient(outside, 3)[1] == 3
    assert anchor.gradient(other, 3)[1] == 8
    assert anchor.gradient(other, 3)[1] == 3


def test_small_steps_are_ranked_rightly_to_first_order(loop):
    run = loop(None, norm="group", optimizer="sgd").run(stop=8)
    run.learner.optimizer.param_groups[0]["lr"] = 1e-4
    batches, outside = candidates(run, 8), run.validation.fetch(torch.arange(20))
    scores = looking(run, "first-order").look(batches, Goal("external", outside)).scores
    gains = Exact(run.learner, run.data).look(batches, Goal("external", outside)).gains
    assert rank_correlation(scores, gains) > 0.95


def test_the_best_of_all_wins(loop, losses_after):
    order = make(candidates="all", on="external")
    run = loop(order)
    order.start_epoch(0, 0.0, 0.0)
    outside = order._read_external()
    taken = [b for b in run.upstream() if b is not None]
    gains = []
    for batch in taken:
        before, after = losses_after(run, batch.indices, *outside, size=6)
        gains.append(before - after)
    run.position = 0
    first = next(b for b in order.batches(run.upstream()) if b is not None)
    assert first.indices.equal(taken[gains.index(max(gains))].indices)


def test_the_external_batch_is_drawn_from_validation_and_anew_each_epoch(loop):
    order, twin = make(on="external", external=7), make(on="external", external=7)
    run, other = loop(order), loop(twin)
    drawn = []
    for epoch in (0, 1, 0):
        for one in (order, twin):
            one.start_epoch(epoch, 0.0, 0.0)
        x, y = order._read_external()
        assert torch.equal(x, twin._read_external()[0])
        assert len(x) == len(y) == 7
        assert all(any(torch.equal(a, b) for b in run.validation.x) for a in x)
        drawn.append(x)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    del other


def test_what_it_costs(loop):
    """K = 4 candidates of 6, external batch of 20; forward 1, backward 2."""
    run = loop(make(on="external")).run(1, stop=3)
    assert [p.cost for p in run.passes] == [4 * (18 + 20) + 20] * 3
    assert run.passes[0].samples == 4 * 6 + 5 * 20
    assert (run.passes[0].forwarded, run.passes[0].backpropagated) == (4 * 26 + 20, 24)
    kept = loop(make(on="external"), final=True).run(1, stop=3)
    # A kept winner is not trained again, and its loss is the loss before of the next look.
    assert [p.cost for p in kept.passes] == [4 * 38 - 18 + 20, 4 * 38 - 18, 4 * 38 - 18]
    assert [p.cost for p in loop(make()).run(1, stop=2).passes] == [4 * 24] * 2
    assert loop(make(method="first-order")).run(1, stop=1).passes[0].cost == 3 * (24 + 20)
    kept = loop(make(method="kept-gradients")).run(1, stop=3).passes
    assert [p.cost for p in kept] == [3 * (24 + 20), 3 * (12 + 3), 3 * (12 + 3)]


@pytest.mark.parametrize("final", [False, True])
def test_what_kept_gradients_cost(loop, final):
    """The passes that are counted are those that are made, and saved updates are taken off."""
    run = loop(make(method="kept-gradients"), final=final, train=240)
    rows = {"forward": 0, "backward": 0}

    def count(kind):
        def hook(module, *args):
            rows[kind] += len(args[-1] if kind == "forward" else args[-1][0])

        return hook

    run.model[-1].register_forward_hook(count("forward"))
    run.model[-1].register_full_backward_hook(count("backward"))
    run.run(1, stop=30)
    assert sum(p.samples for p in run.passes) + 30 * 6 == rows["forward"] == rows["backward"]
    made = sum(run.made)
    assert (made > 20) if final else (made == 0)
    # The first look takes all 4 candidates and 20 external samples; then 2 and a piece, 7 of which are 20 samples,
    # and all 20 again at the 15th and 29th.
    expected = [24 + 20] + [12 + 3] * 29
    for place in (14, 28):
        expected[place] = 12 + 20
    for place in (6, 13, 20, 27):
        expected[place] = 12 + 2
    assert [p.cost for p in run.passes] == [3 * (e - 6 * m) for e, m in zip(expected, run.made, strict=True)]


def test_the_known_loss_before_is_the_measured_one(loop):
    """Gains with and without kept winners are the same: the loss is carried over, or measured."""
    kept, plain = (loop(make(on="external"), final=f).run(2) for f in (True, False))
    assert kept.indices == plain.indices
    for a, b in zip(kept.described, plain.described, strict=True):
        assert a["gain"] == pytest.approx(b["gain"], abs=1e-6)
        assert a["mean_gain"] == pytest.approx(b["mean_gain"], abs=1e-6)
        assert a["gain"] > a["mean_gain"]
        assert a["looks"] == 7  # the last batch of an epoch is alone


@pytest.mark.parametrize("method", CHEAP)
def test_measuring_fidelity_does_not_change_the_training(loop, same, method):
    options = {"method": method, "winners": 2 if method != "kept-gradients" else 1}
    plain, measured = (
        loop(make(**options), dropout=0.3).run(2),
        loop(make(**options, fidelity=1), dropout=0.3).run(2),
    )
    assert same(plain.outcome(), measured.outcome())
    assert sum(p.cost for p in measured.passes) > sum(p.cost for p in plain.passes)
    found = measured.described[0]
    assert found["measured"] >= 6
    assert ("rank_correlation" in found) == (method != "per-sample")
    assert -1 <= found.get("rank_correlation", 0) <= 1
    assert found["share_of_gain"] <= 1 or method == "per-sample"
    assert "measured" not in plain.described[0]
    rarely = loop(make(**options, fidelity=4)).run(1)
    assert rarely.described[0]["measured"] <= 2


def test_gains_are_measured_before_the_winner_is_trained_on(loop):
    """A look that keeps its winner's update leaves the network behind it; measured gains must not show that."""
    kept, plain = (
        loop(make(method="kept-gradients", fidelity=1), dropout=0.3, final=final).run(2) for final in (True, False)
    )
    assert any(kept.made)
    assert not any(plain.made)
    assert kept.indices == plain.indices
    for a, b in zip(kept.described, plain.described, strict=True):
        assert a["rank_correlation"] == pytest.approx(b["rank_correlation"], abs=1e-6)
        assert a["share_of_gain"] == pytest.approx(b["share_of_gain"], abs=1e-4)
        assert a["gain"] == pytest.approx(b["gain"], abs=1e-6)


def test_fidelity_by_hand():
    fidelity = Fidelity()
    scores, gains = torch.tensor([1.0, 3.0, 2.0, 2.0]), torch.tensor([0.1, 0.2, 0.5, 0.0])
    fidelity.add(gains, 1, scores)
    expected = spearmanr(scores, gains).statistic
    described = fidelity.describe()
    assert described["rank_correlation"] == pytest.approx(expected)
    assert described["share_of_gain"] == pytest.approx((0.2 - 0.2) / (0.5 - 0.2))
    fidelity.add(torch.tensor([0.4, 0.1, 0.2]), 0)  # chosen before: against the mean of the others
    assert fidelity.describe()["share_of_gain"] == pytest.approx((0.0 + 0.25) / (0.3 + 0.25), abs=1e-6)
    fidelity.add(torch.tensor([float("nan"), 1.0]), 0)
    fidelity.add_made(0.5, torch.tensor([float("nan"), 1.0]))
    assert fidelity.describe()["measured"] == 2


def test_fidelity_of_a_batch_made_of_samples():
    """Beside the best of random batches; it may gain more than that."""
    fidelity = Fidelity()
    fidelity.add_made(0.4, torch.tensor([0.1, 0.2]))
    fidelity.add_made(0.1, torch.tensor([0.1, 0.0]))
    assert fidelity.describe()["share_of_gain"] == pytest.approx((0.25 + 0.05) / (0.05 + 0.05))
    assert fidelity.describe()["measured"] == 2


def test_it_switches_itself_off(loop):
    """Four candidates cost more than eight times a plain update: no gain pays for that."""
    run = loop(make(until_gain_below=1.0), train=300).run(1)
    assert not run.order.active
    assert run.passes[-1].cost == 0
    assert len(run.trained) == 50
    assert sum(p.cost > 0 for p in run.passes) == 32
    always = loop(make(until_gain_below=1e-9), train=240).run(1)
    assert always.order.active


def test_it_switches_itself_off_not_before_the_window_is_full(loop, monkeypatch):
    """Here a window of three looks; without the option it goes on."""
    monkeypatch.setattr("lessonplan.order.loss_delta._WINDOW", 3)
    for limit, looks in ((1e9, 3), (1e-9, 7), (None, 7)):  # the last batch of an epoch is alone
        run = loop(make(until_gain_below=limit, candidates=2), norm="none").run(1)
        assert [p.cost > 0 for p in run.passes] == [True] * looks + [False] * (8 - looks)


def test_samples_are_compared_with_other_batches_at_each_update(loop):
    """Eight of those that wait, by a generator of their own: the same ones for the same update of the same run."""

    def compared(updates, seed):
        order = make(method="per-sample", fidelity=1)
        run = loop(order, train=240, seed=seed)
        waiting = [batch for batch in run.upstream() if batch is not None]
        order._held, order._updates = waiting[4:], updates
        looked = {tuple(batch.indices.tolist()) for batch in waiting[:4]}
        others = [tuple(batch.indices.tolist()) for batch in order._others(waiting[:4])]
        assert len(set(others)) == 8
        assert not looked & set(others)
        return others

    assert compared(3, 0) == compared(3, 0)
    assert compared(3, 0) != compared(4, 0)
    assert compared(3, 0) != compared(3, 1)


@pytest.mark.parametrize(
    ("method", "final"),
    [
        ("exact", False),
        ("exact", True),
        ("first-order", False),
        ("kept-gradients", False),
        ("kept-gradients", True),
        ("per-sample", False),
    ],
)
def test_it_goes_on_from_any_update(loop, same, method, final):
    def start():
        options = {} if method == "exact" else {"fidelity": 2}
        return loop(make(method=method, on="external", **options), dropout=0.3, final=final)

    whole = start().run(2)
    for stop in (1, 11):
        begun = start().run(2, stop=stop)
        rest = start().resume(begun.state(), 2)
        assert begun.indices + rest.indices == whole.indices
        assert same(rest.outcome(), whole.outcome())
        assert rest.described[-1] == whole.described[-1]


def test_a_candidate_that_breaks_the_network_never_wins(loop):
    run = loop(make(candidates="all", on="external"))
    run.data.x[:6] = 1e30
    parts = torch.arange(48).split(6)
    made = [b for b in run.order.batches(iter(Batch(p, p * 0) for p in parts)) if b is not None]
    assert made[0].indices.min() >= 6


def test_a_loss_that_is_a_scalar_will_do(loop):
    def mean_loss(logits, target):
        return nn.functional.cross_entropy(logits, target)

    ours = loop(make(on="external"), loss=mean_loss, final=True).run(1)
    assert ours.indices == loop(make(on="external"), final=True).run(1).indices


def test_a_loss_that_is_a_scalar_will_not_do_for_samples(loop):
    def mean_loss(logits, target):
        return nn.functional.cross_entropy(logits, target)

    with pytest.raises(ConfigError, match=r"needs a loss for each of 6 samples.*reduction='none'"):
        loop(make(method="per-sample"), loss=mean_loss).run(1)


def test_an_external_batch_from_the_training_data_is_refused(loop, make_samples):
    data = make_samples(30, 0)
    other = make_samples(20, 1)
    for validation, number in (
        (data, "30 of 30"),
        (type(data)(torch.cat([other.x, data.x[:2]]), torch.zeros(22, dtype=torch.int64)), "2"),
    ):
        with pytest.raises(DataError, match=f"{number} of|{number}"):
            make(on="external").setup(Occasion(0, data, validation))
    make(on="external").setup(Occasion(0, data, other))


def test_a_view_is_compared_with_its_whole_source_by_content(make_samples):
    """The source has no rows of its own to be compared by."""
    source = make_samples(30, 0)
    view = type(source)(source.x[:10], source.y[:10])
    view.source, view.rows = source, torch.arange(10)
    with pytest.raises(DataError, match="10 of 30 external samples are training samples too"):
        make(on="external").setup(Occasion(0, view, source))


def test_views_of_one_source_are_told_apart_by_their_rows():
    import lessonplan as lp

    data = lp.data.load("digits", per_class=10, val_fraction=0.2)
    make(on="external").setup(Occasion(0, data.train, data.val))
    with pytest.raises(DataError, match="80 of 80 external samples are training samples too"):
        make(on="external").setup(Occasion(0, data.train, data.train.with_augment(None)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "candidates=0"),
        ({"on": "test"}, "on='test': give one of same, external, relative"),
        ({"method": "magic"}, "method='magic': give one of exact"),
        (
            {"method": "kept-gradients", "on": "same"},
            "method=kept-gradients needs an external batch",
        ),
        ({"external": 0}, "external=0"),
        ({"layers": 0}, "layers=0: give 1 or more"),
        ({"fidelity": 5}, "fidelity=5 with method=exact"),
        ({"method": "kept-gradients", "fidelity": 0}, "fidelity=0 with method=kept-gradients"),
        ({"method": "kept-gradients", "until_gain_below": 1.0}, "until_gain_below needs measured gains"),
        ({"until_gain_below": 0.0}, "until_gain_below=0.0: give a factor above 0"),
        ({"method": "kept-gradients", "pool": 9}, "method=kept-gradients holds its candidates: leave pool=9 out"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_the_smallest_numbers_will_do():
    order = make(method="last-layers", candidates=1, fidelity=1, layers=1, external=1, until_gain_below=1e-9)
    assert (order.drawn, order.fidelity, order.layers, order.external) == (1, 1, 1, 1)


def test_errors_of_the_run(loop):
    with pytest.raises(ConfigError, match="judges updates by validation samples, but there are none"):
        make(on="external").setup(Occasion(0, loop(None).data, None))
    with pytest.raises(ConfigError, match=r"cannot train networks with batch norm side by side \(1\): use group"):
        loop(make(method="stacked"))
    run = loop(None, norm="group")
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    with pytest.raises(ConfigError, match="works without a gradient scaler"):
        StackedLookAhead(Learner(run.learner.network, run.learner.optimizer, scaler), run.data)
    with pytest.raises(ConfigError, match="4 candidates, but there are only 2 batches"):
        loop(make(), train=12).run(1)


def test_stacked_looks_at_their_own_losses_are_not_taken_for_those_that_had_dropout():
    """Stored runs of before looked at the network with dropout first and without it then."""
    assert LossDelta(method="stacked").config() == {"name": "loss-delta", "method": "stacked", "dropout": "off"}
    assert "dropout" not in LossDelta(method="stacked", on="external").config()
    assert LossDelta().config() == {"name": "loss-delta"}
    assert str(LossDelta(method="stacked")) == "loss-delta:method=stacked"
