"""A plan in a loop of one's own: what ``fit`` does, stored and gone on with, told what was forgotten."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F

import lessonplan as lp
from lessonplan.batch import Batch
from lessonplan.errors import ConfigError
from lessonplan.integrations.timm import Mixup
from lessonplan.seeds import fold_seed
from lessonplan.supply.epoch import Supply
from lessonplan.supply.loops import Weighted
from lessonplan.supply.tensors import TensorSamples

PLANS = [
    "none",
    "mixup",
    "mixup >> cutout",
    "manifold",
    "puzzle",
    "cascade:k=4,patience=none",
    "gradual:k=3",
    "select:accuracy >> batchwise:reuse=never",
    "select:topk:0.5 >> epochwise",
    "select:weighted:0.5,importance=true + mixup",
    "select:infobatch >> epochwise",
    "order:multi-attempt:k=3",
    "order:by-score:k=2,score=label,order=descending + cutmix",
    "order:loss-delta:candidates=3,on=external,external=8,method=kept-gradients + mixup",
    "select:accuracy + order:multi-attempt:k=2 + mixup",
    "select:topk:0.5 >> epochwise + order:loss-delta:candidates=2 + cascade:k=2,patience=none",
]
MODEL = "tiny"
EPOCHS, BATCH, SEED = 3, 8, 5


@pytest.fixture(scope="module")
def data() -> lp.data.Data:
    y = torch.arange(3).repeat_interleave(20)
    x = torch.randint(0, 200, (60, 8, 8), generator=torch.Generator().manual_seed(0))
    for label in range(3):
        x[y == label, :, 2 * label : 2 * label + 2] += 30
    x = x.to(torch.uint8)
    return lp.data.load((x, y), test=(x[:3] // 2, y[:3]), val_fraction=0.2, augment="flip")


class OwnLoop:
    """Somebody's training loop."""

    def __init__(self, data, plan, epochs=EPOCHS) -> None:
        shape, seed = data.shape, fold_seed(SEED, "weights")
        self.model = lp.models.build_model(MODEL, shape=shape, num_classes=3, seed=seed)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )
        self.loop = lp.batches(
            self.model, data, plan, batch_size=BATCH, epochs=epochs, optimizer=self.optimizer, seed=SEED
        )
        self.held_out = data.val
        self.model.train()

    def run(self, stop: int | None = None) -> OwnLoop:
        updates = 0
        while not self.loop.over:
            for x, target, weights in self.loop:
                with self.loop.forward():
                    logits = self.model(x)
                soft = target if target.is_floating_point() else F.one_hot(target, 3).float()
                losses = F.cross_entropy(logits, soft, reduction="none")
                self.optimizer.zero_grad()
                (losses * weights).mean().backward()
                self.optimizer.step()
                self.loop.observe(logits)
                updates += 1
                if updates == stop:
                    return self
            self.loop.step(self.accuracy())
        return self

    def accuracy(self) -> float:
        self.model.eval()
        x, y = self.held_out.fetch(torch.arange(len(self.held_out)))
        with torch.no_grad():
            found = (self.model(x).argmax(1) == y).double().mean().item()
        self.model.train()
        return found

    def weights(self) -> torch.Tensor:
        return torch.cat([value.flatten().double() for value in self.model.state_dict().values()])


@pytest.mark.parametrize("plan", PLANS)
def test_trains_as_fit_does(data, plan) -> None:
    """Select, order and mix together, bit for bit where sums are the same; and at the same cost."""
    run = lp.fit(
        MODEL,
        data,
        plan,
        f"{EPOCHS}ep",
        seed=SEED,
        batch_size=BATCH,
        schedule="constant",
        threads=1,
        evaluate_every=1,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    own = OwnLoop(data, plan).run()
    torch.set_num_threads(threads)
    fitted = torch.cat([value.flatten().double() for value in run.model.state_dict().values()])
    if "importance" in plan and plan.endswith("mixup"):  # factors beside targets here, inside of them there
        assert torch.allclose(own.weights(), fitted, rtol=1e-3, atol=1e-5)
    else:
        assert torch.equal(own.weights(), fitted)
    assert own.loop.counters.steps == run.result["steps"]
    assert own.loop.counters.raw_samples == run.result["raw_samples"]
    kept = "loss-delta" in plan and not plan.endswith(("mixup", "none"))
    assert kept or own.loop.counters.cost == run.result["cost"]


@pytest.mark.parametrize("plan", PLANS)
def test_stored_at_any_update_and_gone_on_with(data, plan) -> None:
    whole = OwnLoop(data, plan).run()
    for stop in (1, 4, 7):
        begun = OwnLoop(data, plan).run(stop)
        file = io.BytesIO()
        parts = {"model": begun.model, "optimizer": begun.optimizer, "loop": begun.loop}
        torch.save({name: part.state_dict() for name, part in parts.items()}, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        other = OwnLoop(data, plan)
        for name in parts:
            getattr(other, name).load_state_dict(copy.deepcopy(state[name]))
        other.run()
        assert torch.equal(other.weights(), whole.weights())
        assert other.loop.counters == whole.loop.counters


@pytest.mark.parametrize("plan", [*PLANS, "select:gradient-norm", "select:matched-random", "select:active-bias"])
def test_the_default_type_of_tensors_changes_nothing(data, plan) -> None:
    """``torch.set_default_dtype`` is about tensors that the loop makes."""
    whole, own = OwnLoop(data, plan).run(), OwnLoop(data, plan)
    torch.set_default_dtype(torch.float64)
    try:
        own.loop = lp.batches(
            own.model, data, plan, batch_size=BATCH, epochs=EPOCHS, optimizer=own.optimizer, seed=SEED
        )
        own.run()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(own.weights(), whole.weights())


def test_an_iteration_is_an_epoch(data) -> None:
    loop = OwnLoop(data, "none").loop
    lengths = [sum(len(x) for x, _, _ in loop) for _ in range(EPOCHS)]
    assert lengths == [48, 48, 48]
    assert len(loop) == 6
    with pytest.raises(ConfigError, match="all 3 epochs are over"):
        next(iter(loop))


def test_labels_where_nothing_is_mixed_and_soft_targets_where_something_is(data) -> None:
    (_, labels, weights), (_, soft, _) = (next(iter(OwnLoop(data, plan).loop)) for plan in ("none", "mixup"))
    assert labels.dtype == torch.int64
    assert soft.shape == (8, 3)
    assert torch.equal(weights, torch.ones(8))


def test_tensors_and_views_as_data(data) -> None:
    x, y = data.train.fetch(torch.arange(48))
    model = lp.models.build_model("tiny", shape=data.shape, num_classes=3, seed=0)
    for given in ((x, y), data.train):
        loop = lp.batches(model, given, "select:accuracy + mixup", batch_size=8, epochs=1)
        assert all(target.ndim == 2 for _, target, _ in loop)


def test_the_plan_stays_as_it_was(data) -> None:
    plan = lp.Plan(select=lp.select.InfoBatch(), mix=lp.mix.Cascade(4, patience=None))
    before = copy.deepcopy(plan.mix.state_dict())
    OwnLoop(data, plan).run()
    assert torch.equal(plan.mix.state_dict()["generator"], before["generator"])
    assert plan.mix.current_k() == 4
    assert plan.mix.num_classes is None


def test_a_cascade_moves_on_by_a_metric(data) -> None:
    own = OwnLoop(data, "cascade:k=4,patience=1,shares=none", epochs=6)
    said = []
    for _ in range(6):
        for x, target, _ in own.loop:
            assert target.shape == (len(x), 3)
        said.append(own.loop.step(0.5))
    assert said[0] == "improved"
    assert "switched" in said
    assert own.loop.supply.mix.current_k() < 4


def test_what_was_forgotten_is_said(data) -> None:
    loop = OwnLoop(data, "select:infobatch >> epochwise").loop
    with pytest.raises(ConfigError, match=r"call observe\(logits\)"):
        list(loop)
    loop = OwnLoop(data, "cascade:k=4,patience=1,shares=none").loop
    list(loop)
    with pytest.raises(ConfigError, match=r"call step\(metric\)"):
        list(loop)
    model = OwnLoop(data, "none").model
    with pytest.raises(ConfigError, match="give optimizer="):
        lp.batches(model, data, "order:multi-attempt:k=2", epochs=1)
    with pytest.raises(ConfigError, match="by validation samples, but there are none"):
        lp.batches(
            model,
            data.train,
            "order:loss-delta:on=external",
            epochs=1,
            optimizer=torch.optim.SGD(model.parameters(), 0.1),
        )
    with pytest.raises(ConfigError, match="give 1 or more"):
        lp.batches(model, data, epochs=0)
    with pytest.raises(TypeError, match="a selection decides"):
        len(OwnLoop(data, "select:accuracy").loop)


def test_an_epoch_that_was_left_goes_on(data) -> None:
    """As after a break: nothing is trained on twice, nothing is left out."""
    loop, seen = OwnLoop(data, "none").loop, []
    for x, _, _ in loop:
        seen.append(x)
        if len(seen) == 2:
            break
    seen += [x for x, _, _ in loop]
    assert sum(map(len, seen)) == 48
    assert loop.epoch == 1


def test_all_epochs_at_once_are_not_followed_by_none(data) -> None:
    """A framework that iterates once an epoch would see 30, 0, 0 batches."""
    network = lp.models.build_model(MODEL, shape=data.shape, num_classes=data.num_classes, seed=0)
    at_once = lp.select.batches(network, data.train, lp.select.AccuracyFilter(), batch_size=BATCH, epochs=3)
    assert len(list(at_once))
    with pytest.raises(ConfigError, match=r"take lp\.batches, whose iteration is an epoch"):
        list(at_once)
    each = lp.batches(network, data.train, "select:accuracy:margin=1", batch_size=BATCH, epochs=3)
    counts = [len(list(each)) for _ in range(3)]
    assert min(counts) > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize(
    "plan",
    [
        "mixup",
        "select:infobatch",
        "select:infobatch + mixup",
        "select:weighted:0.5,importance=true,power=2 + cutmix",
    ],
)
def test_smoothed_labels_with_factors_train_as_fit_does(data, plan, smoothing) -> None:
    """Factors of losses are not part of what is smoothed: ``w * loss(t)``, never ``loss(w * t)``."""
    shape, drawn = data.shape, fold_seed(SEED, "weights")
    run = lp.fit(
        MODEL, data, plan, f"{EPOCHS}ep", seed=SEED, batch_size=BATCH, schedule="constant", threads=1,
        label_smoothing=smoothing, optimizer="sgd", lr=0.05, weight_decay=0.0, nesterov=False,
    )  # fmt: skip
    model = lp.models.build_model(MODEL, shape=shape, num_classes=3, seed=drawn).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)

    loop = lp.batches(
        model, data, plan, batch_size=BATCH, epochs=EPOCHS, optimizer=optimizer, loss=loss, seed=SEED
    )
    while not loop.over:
        for x, target, weights in loop:
            logits = model(x)
            optimizer.zero_grad()
            (loss(logits, target) * weights).mean().backward()
            optimizer.step()
            loop.observe(logits)
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def weighed(mix: lp.mix.Mix | None, classes: int) -> Weighted:
    """The first batch of samples that a selection weighs, the same ones whatever the mix is."""
    x = torch.rand(40, 8, generator=torch.Generator().manual_seed(0))
    select = lp.select.LossWeighted(0.5, importance=True, power=2.0)
    plan = lp.Plan(select=select, mix=mix)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Linear(8, classes)
    return next(iter(lp.batches(network, (x, torch.arange(40) % classes), plan, batch_size=10, epochs=1)))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_that_the_mix_smooths_keep_their_factors(mode, multi_label) -> None:
    """Nothing is mixed here, so that factors stay as they are, and so do targets."""
    plain = weighed(None, 4)
    given = {"num_classes": 4, "mode": mode, "multi_label": multi_label, "label_smoothing": 0.4}
    found = weighed(Mixup(prob=0.0, **given), 4)
    torch.testing.assert_close(found.weights, plain.weights)
    assert plain.weights.max() > 1.2 * plain.weights.min()
    off = 0.2 if multi_label else 0.1
    torch.testing.assert_close(found.target, F.one_hot(plain.target, 4) * 0.6 + off)
    assert torch.equal(found.x, plain.x)


@pytest.mark.parametrize("pairing", ["groups", "permute"])
@pytest.mark.parametrize("around", ["{}", "({}) >> cutout", "{},p=1.0", "({})|({})"])
def test_united_labels_keep_their_rows_and_average_factors(pairing, around) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 1, 8, 8, generator=generator), torch.randint(0, 4, (40,), generator=generator)
    samples = TensorSamples(x, y)
    found = {}
    for labels in ("union", "average"):
        mix = lp.mix.parse_mix(around.replace("{}", f"sum:k=2,pairing={pairing},labels={labels}"))
        mix.finish_setup(4, 0)
        batch = Batch(torch.arange(40), torch.zeros(40, dtype=torch.long), torch.linspace(0.5, 2.0, 40))
        found[labels] = Supply(samples, seed=0, mix=mix).mixed(batch)
    united, averaged = found["union"], found["average"]
    torch.testing.assert_close(united.weights, averaged.weights)
    torch.testing.assert_close(united.x, averaged.x)
    assert set(united.target.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(united.target > 0, averaged.target > 0)
    assert united.target.sum(1).max() == 2
