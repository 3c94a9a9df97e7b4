"""Lightning, the real one: mixes hear of progress, stages end with their best weights, resuming is exact."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
import torch.nn.functional as F
from tests.integrations.examples import example
from torch.utils.data import DataLoader, TensorDataset

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning

pytest.importorskip("lightning", reason="pip install 'lessonplan[lightning]'")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lessonplan.integrations.lightning import MixCallback, PlanLoader

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 4


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        yield


class Net(LightningModule):
    def __init__(self, mix=None, scores=(), scheduled=False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
        self.mix, self.scores, self.rows, self.scheduled = mix, list(scores), [], scheduled

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, target = self.mix(*batch) if self.mix is not None else batch
        self.rows.append(len(x))
        with self.mix.forward_context() if self.mix is not None else torch.enable_grad():
            return F.cross_entropy(self(x), target)

    def validation_step(self, batch, batch_idx):
        scored = (
            self.scores[self.current_epoch]
            if self.scores
            else float((self(batch[0]).argmax(1) == batch[1]).float().mean())
        )
        self.log("val_accuracy", scored)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        if not self.scheduled:
            return optimizer
        return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer)]


def loader(**options):
    g = torch.Generator().manual_seed(3)
    return DataLoader(
        TensorDataset(X, Y), batch_size=8, shuffle=options.pop("shuffle", True), generator=g, **options
    )


def trainer(tmp_path, *callbacks, epochs=6, **options):
    return Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )


def weights(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


@pytest.mark.parametrize("where", ["step", "collate", "workers"])
def test_a_cascade_hears_of_progress(where, tmp_path):
    mix = lp.mix.Cascade(k=4, num_classes=4, patience=None, lr_at_switch="keep")
    net = Net(mix if where == "step" else None)
    options = {} if where == "step" else {"collate_fn": mix}
    if where == "workers":
        options |= {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "fork"}
    trainer(tmp_path, MixCallback(mix)).fit(net, loader(**options))
    assert net.rows == [2] * 10 + [4] * 10 + [8] * 10  # five batches of 8 an epoch, six epochs, k = 4, 2, 1


@pytest.mark.parametrize("steps", [True, False])
def test_a_gradual_cascade_follows_within_an_epoch(steps, tmp_path):
    mix = lp.mix.GradualCascade(k=2, num_classes=4, variant="linear", finetune=0.0)
    seen = []

    class Look(Callback):
        def on_train_batch_end(self, *args):
            seen.append(mix.t)

    limits = {"max_steps": 10, "epochs": -1} if steps else {"epochs": 2}
    trainer(tmp_path, MixCallback(mix), Look(), **limits).fit(Net(mix), loader())
    assert seen == pytest.approx([i / 10 for i in range(10)])


SCORES = [0.5, 0.6, 0.55, 0.58, 0.7, 0.65, 0.66, 0.6]


def test_a_stage_ends_with_its_best_weights(tmp_path):
    mix = lp.mix.Cascade(k=4, num_classes=4, patience=2, shares=None, lr_at_switch="keep")
    net, before, after = Net(mix, SCORES), [], []

    class Look(Callback):
        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking:
                after.append((weights(module), mix.k, bool(trainer.optimizers[0].state)))

    class Before(Callback):
        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking:
                before.append(weights(module))

    trainer(tmp_path, Before(), MixCallback(mix, "val_accuracy"), Look(), epochs=8).fit(net, loader(), loader())
    assert [k for _, k, _ in after] == [4, 4, 4, 2, 2, 2, 1, 1]
    assert torch.equal(after[3][0], before[1])  # of .6
    assert not torch.equal(after[3][0], before[3])
    assert torch.equal(after[6][0], before[4])  # of .7
    assert [state for _, _, state in after] == [True, True, True, False, True, True, False, True]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_what_is_better_is_said(mode, tmp_path):
    mix = lp.mix.Cascade(k=2, num_classes=4, patience=2, shares=None, lr_at_switch="keep")
    falling = [0.9, 0.8, 0.7, 0.6]
    trainer(tmp_path, MixCallback(mix, "val_accuracy", mode=mode), epochs=4).fit(
        Net(mix, falling), loader(), loader()
    )
    assert mix.k == (2 if mode == "min" else 1)


def test_validation_after_training_changes_nothing(tmp_path):
    mix = lp.mix.Cascade(k=4, num_classes=4, patience=1, shares=None, lr_at_switch="keep")
    net = Net(mix, [0.5])
    made = trainer(tmp_path, MixCallback(mix, "val_accuracy"), epochs=1)
    made.fit(net, loader(), loader())
    net.scores = [0.4, 0.4]
    with torch.no_grad():
        for value in net.parameters():
            value.add_(1.0)
    kept = weights(net)
    for _ in range(2):
        made.validate(net, loader(), verbose=False)
    assert (mix.stage, mix.best, mix.waited) == (0, 0.5, 0)
    assert torch.equal(weights(net), kept)


MIXES = {
    "mixup": lambda: lp.mix.Mixup(num_classes=4),
    "manifold": lambda: lp.mix.ManifoldMixup(num_classes=4, layers=["input", "net.0"]),
    "plateau": lambda: lp.mix.Cascade(k=4, num_classes=4, patience=2, shares=None, lr_at_switch="keep"),
}


@pytest.mark.parametrize("name", MIXES)
def test_a_run_resumes_bit_for_bit(name, tmp_path):
    """After the third epoch, when the best weights of a stage are those of the second."""

    def run(mix, resume=None):
        net = Net(mix, SCORES)
        keep = ModelCheckpoint(tmp_path / "kept", filename="{epoch}", save_top_k=-1)
        batches = loader(shuffle=False)
        made = trainer(tmp_path, MixCallback(mix, "val_accuracy"), keep, epochs=8, enable_checkpointing=True)
        made.fit(net, batches, loader(), ckpt_path=resume, weights_only=True)
        return weights(net)

    whole = run(MIXES[name]())
    file = tmp_path / "kept" / "epoch=2.ckpt"
    assert torch.equal(run(MIXES[name](), file), whole)
    stored = torch.load(file, weights_only=True)
    fresh = MIXES[name]()
    fresh.reseed(9)
    (key,) = [key for key in stored["callbacks"] if key.startswith("MixCallback")]
    stored["callbacks"][key] = {"mix": [fresh.state_dict()], "best": None}
    torch.save(stored, tmp_path / "changed.ckpt")
    assert not torch.equal(run(MIXES[name](), tmp_path / "changed.ckpt"), whole)


class PlanNet(Net):
    def __init__(self, loop=None) -> None:
        super().__init__()
        self.loop = loop

    def training_step(self, batch, batch_idx):
        x, target, factors = batch
        logits = self(x)
        self.loop.observe(logits)
        self.rows.append(len(x))
        return (F.cross_entropy(logits, target, reduction="none") * factors).mean()


PLAN = "select:accuracy >> topk:0.5 + mixup"


def _plan_loop(net, epochs=4):
    return lp.batches(net.net, (X, Y), PLAN, batch_size=8, epochs=epochs, seed=1)


def test_a_plan_trains_as_in_a_loop_of_ones_own(tmp_path):
    """Each batch is chosen by the network as it is after the update before."""
    net = PlanNet()
    net.loop = _plan_loop(net)
    batches = PlanLoader(net.loop, updates=3)
    validated = []

    class Look(Callback):
        def on_validation_end(self, trainer, module):
            validated.append(trainer.global_step)

    trainer(tmp_path, batches.callback, Look(), epochs=-1, num_sanity_val_steps=0).fit(net, batches, loader())
    plain = PlanNet()
    loop = _plan_loop(plain)
    optimizer = plain.configure_optimizers()
    updates = 0
    while not loop.over:
        for x, target, factors in loop:
            logits = plain(x)
            optimizer.zero_grad()
            (F.cross_entropy(logits, target, reduction="none") * factors).mean().backward()
            optimizer.step()
            loop.observe(logits)
            updates += 1
    assert net.loop.over
    assert len(net.rows) == updates > 6
    assert torch.equal(weights(net.net), weights(plain.net))
    assert validated[:2] == [3, 6]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_training_at_another_precision(precision, tmp_path):
    """Lightning makes that type the default one while it asks for the training step."""
    mix = lp.mix.Choice([lp.mix.Mixup(), lp.mix.SumAugment(2)], num_classes=4)
    net = Net(mix)
    before = weights(net)
    trainer(tmp_path, MixCallback(mix), epochs=2, precision=precision).fit(net, loader(), loader())
    assert set(net.rows) == {4, 8}
    assert weights(net).isfinite().all()
    assert not torch.equal(weights(net).double(), before.double())


def test_an_empty_plan_is_the_loop_without_one(tmp_path):
    plain = Net()
    trainer(tmp_path).fit(plain, loader())
    follower = MixCallback("none")
    ours = Net(follower.mix)
    trainer(tmp_path, follower).fit(ours, loader())
    assert torch.equal(weights(ours), weights(plain))


def test_a_plan_resumes_bit_for_bit(tmp_path):
    def run(resume=None):
        net = PlanNet()
        net.loop = _plan_loop(net)
        batches = PlanLoader(net.loop, updates=3)
        keep = ModelCheckpoint(tmp_path / "kept", filename="{step}", save_top_k=-1)
        options = {"epochs": -1, "num_sanity_val_steps": 0, "enable_checkpointing": True}
        trainer(tmp_path, batches.callback, keep, **options).fit(
            net, batches, loader(), ckpt_path=resume, weights_only=True
        )
        return weights(net.net)

    whole = run()
    assert torch.equal(run(tmp_path / "kept" / "step=6.ckpt"), whole)


def test_what_cannot_be_done_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"the selection accuracy >> batchwise decides .* PlanLoader"):
        MixCallback("select:accuracy + mixup")
    with pytest.raises(ConfigError, match=r"the order multi-attempt.* decides .* PlanLoader"):
        MixCallback(lp.Plan(order=lp.order.parse_order("multi-attempt:k=2"), mix=lp.mix.Mixup()))
    plateaus = lp.mix.Cascade(k=4, num_classes=4, shares=None)
    with pytest.raises(ConfigError, match="give monitor"):
        trainer(tmp_path, MixCallback(plateaus)).fit(Net(plateaus), loader())
    with pytest.raises(ConfigError, match="'val_acc' was not logged: validation logs val_accuracy"):
        trainer(tmp_path, MixCallback(plateaus, "val_acc")).fit(Net(plateaus), loader(), loader())
    for given, options in (((loader(),), {}), ((loader(), loader()), {"limit_val_batches": 0})):
        with pytest.raises(ConfigError, match="plateaus of 'val_accuracy', and nothing is validated"):
            trainer(tmp_path, MixCallback(plateaus, "val_accuracy"), **options).fit(Net(plateaus), *given)
    mix = lp.mix.Mixup(num_classes=4)
    with pytest.raises(ConfigError, match="training has no end"):
        trainer(tmp_path, MixCallback(mix), epochs=-1).fit(Net(mix), loader())
    switching = lp.mix.Cascade(k=4, num_classes=4, patience=None)
    with pytest.warns(LessonplanWarning, match="give on_switch"):
        trainer(tmp_path, MixCallback(switching)).fit(Net(switching, scheduled=True), loader())
    heard = []
    again = lp.mix.Cascade(k=4, num_classes=4, patience=None)
    callback = MixCallback(again, on_switch=lambda trainer: heard.append(trainer.current_epoch))
    trainer(tmp_path, callback).fit(Net(again, scheduled=True), loader())
    assert heard == [2, 4]


def test_the_example_runs_and_resumes(tmp_path):
    ran = example("lightning_cascade")
    _, made = ran.main(epochs=2, out=tmp_path)
    assert made.current_epoch == 2
    newest = max(tmp_path.rglob("*.ckpt"))
    again, made = ran.main(epochs=3, out=tmp_path, resume=newest)
    assert made.current_epoch == 3
    assert again.mix.describe()["k"] <= 4


def test_soft_targets_in_torchmetrics():
    """Accuracy of a mixed batch: by its largest part; KLDivergence takes targets as they are."""
    torchmetrics = pytest.importorskip("torchmetrics")
    mix = lp.mix.Mixup(num_classes=4, seed=0)
    x, target = mix(X, Y)
    logits = torch.nn.Linear(6, 4)(x).detach()
    right = torchmetrics.classification.MulticlassAccuracy(4, average="micro")
    expected = (logits.argmax(1) == target.argmax(1)).float().mean()
    assert float(right(logits, target.argmax(1))) == pytest.approx(float(expected))
    divergence = torchmetrics.KLDivergence()(target, logits.softmax(1))
    by_hand = (torch.xlogy(target, target) - target * logits.log_softmax(1)).sum(1).mean()
    assert float(divergence) == pytest.approx(float(by_hand), abs=1e-5)
