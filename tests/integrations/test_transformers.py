"""Hugging Face's Trainer, the real one: it mixes what trains, and resumes bit for bit."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from tests.integrations.examples import example

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning

transformers = pytest.importorskip("transformers", reason="pip install 'lessonplan[transformers]'")
pytest.importorskip("accelerate", reason="pip install 'lessonplan[accelerate]'")

from lessonplan.integrations.transformers import (  # noqa: E402
    MixCallback,
    MixCollator,
    MixTrainer,
    Samples,
    soft_label_loss,
)

X = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 4


class Items(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict:
        return {"pixel_values": X[index], "labels": int(Y[index])}


def model():
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_channels=3,
        num_labels=4,
        embedding_size=8,
        hidden_sizes=[8, 8],
        depths=[1, 1],
        layer_type="basic",
        downsample_in_first_stage=False,
    )
    return transformers.ResNetForImageClassification(config)


def arguments(out, **options):
    return transformers.TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=10,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=1,
        **{"num_train_epochs": 3, "learning_rate": 0.01, **options},
    )


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


MIXES = {
    "gradual": lambda: lp.mix.GradualCascade(k=3),
    "mixup": lambda: lp.mix.Mixup(),
    "manifold": lambda: lp.mix.ManifoldMixup(layers=["input", "resnet.encoder.stages.0"]),
    "shares": lambda: lp.mix.Cascade(k=4, patience=None, shares=[0.4, 0.3, 0.3]),
    "plateau": lambda: lp.mix.Cascade(k=4, patience=1, shares=None),
}


def accuracy(predicted):
    return {"accuracy": float((predicted.predictions.argmax(1) == predicted.label_ids).mean())}


def trainer(out, mix, **options):
    return MixTrainer(
        model(),
        arguments(out, save_strategy="steps", eval_strategy="steps", save_steps=3, eval_steps=3, **options),
        train_dataset=Items(),
        eval_dataset=Items(),
        compute_metrics=accuracy,
        mix=mix,
        monitor="eval_accuracy",
    )


@pytest.mark.parametrize("name", MIXES)
def test_a_run_resumes_bit_for_bit(name, tmp_path):
    """From the middle of an epoch of four batches; the mix of the resumed run is a new object."""
    whole = trainer(tmp_path / "whole", MIXES[name]())
    whole.train()
    again = trainer(tmp_path / "again", MIXES[name]())
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert again.state.global_step == whole.state.global_step == 12
    assert same(weights(again.model), weights(whole.model))
    if name in ("gradual", "shares"):
        return  # they follow the Trainer's steps alone
    file = tmp_path / "whole" / "checkpoint-6" / "lessonplan.pt"
    fresh = MIXES[name]()
    fresh.reseed(9)
    torch.save({"mix": [fresh.state_dict()], "best": None}, file)
    other = trainer(tmp_path / "other", MIXES[name]())
    other.train(resume_from_checkpoint=str(file.parent))
    assert not same(weights(other.model), weights(whole.model))


def test_an_empty_plan_is_the_trainer_without_one(tmp_path):
    given = {"train_dataset": Items(), "eval_dataset": Items()}
    plain = transformers.Trainer(model(), arguments(tmp_path / "plain"), **given)
    plain.train()
    ours = MixTrainer(model(), arguments(tmp_path / "ours"), mix="none", **given)
    ours.train()
    assert same(weights(ours.model), weights(plain.model))


def test_samples_have_names_and_are_read_a_batch_at_once():
    data = lp.data.load((X.sigmoid(), Y), test=(X[:4].sigmoid(), Y[:4]), augment="none")
    asked = []

    class Asked:
        def __len__(self):
            return len(data.train)

        def __getitems__(self, indices):
            asked.append(list(indices))
            return data.train.__getitems__(indices)

    batches = torch.utils.data.DataLoader(
        Samples(Asked(), inputs="x"), batch_size=5, collate_fn=transformers.default_data_collator
    )
    first = next(iter(batches))
    x, y = data.train.fetch(torch.arange(5))
    assert set(first) == {"x", "labels"}
    assert torch.equal(first["x"], x)
    assert torch.equal(first["labels"], y)
    assert asked == [[0, 1, 2, 3, 4]]
    one = Samples(torch.utils.data.TensorDataset(X, Y))[7]  # which gives one sample at a time
    assert one["labels"] == 3
    assert torch.equal(one["pixel_values"], X[7])
    with pytest.raises(ConfigError, match="has no length"):
        Samples(iter(()))


def test_a_step_is_the_formula(tmp_path):
    """One update by hand: SGD on the cross-entropy of what a twin of the mix gives, samples in their order."""
    net, twin = model(), lp.mix.Mixup(num_classes=4)
    twin_net = model()
    trained = MixTrainer(
        net,
        arguments(tmp_path, max_steps=1, lr_scheduler_type="constant", max_grad_norm=0.0, optim="sgd"),
        train_dataset=Items(),
        mix=lp.mix.Mixup(),
    )
    seen = []
    inner = trained.mix._mix
    trained.mix._mix = lambda x, y: (seen.append((x.clone(), y.clone())), inner(x, y))[1]
    trained.train()
    x, target = twin(*seen[0])
    twin_net.train()
    loss = F.cross_entropy(twin_net(pixel_values=x).logits, target)
    loss.backward()
    for (name, value), (_, after) in zip(twin_net.named_parameters(), net.named_parameters(), strict=True):
        assert torch.allclose(value - 0.01 * value.grad, after, atol=1e-7), name


def test_gradients_are_accumulated_to_the_mean(tmp_path):
    """Two half batches are a whole one, with a mix that makes nothing of them."""

    def run(batch, steps):
        net = model().eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.forward = torch.nn.Identity().forward
        options = {"gradient_accumulation_steps": steps, "max_steps": 2, "optim": "sgd", "max_grad_norm": 0.0}
        given = arguments(tmp_path / str(steps), **options)
        given.per_device_train_batch_size = batch
        MixTrainer(net, given, train_dataset=Items(), mix=lp.mix.Probability(lp.mix.Mixup(), p=0.0)).train()
        return weights(net)

    whole, halves = run(20, 1), run(10, 2)
    assert all(torch.allclose(value, halves[name], atol=1e-6) for name, value in whole.items() if "weight" in name)
    assert not same(whole, weights(model()))


@pytest.mark.parametrize("soft", [True, False])
def test_the_loss_of_accumulated_batches_is_their_mean(soft):
    logits = torch.randn(12, 4, dtype=torch.float64)
    target = torch.rand(12, 4, dtype=torch.float64).softmax(1) if soft else torch.arange(12) % 4
    counted = 48 if soft else 12  # as the Trainer counts: entries that are not -100
    parts = [
        soft_label_loss({"logits": logits[rows]}, target[rows], num_items_in_batch=torch.tensor(counted))
        for rows in (slice(0, 5), slice(5, 12))
    ]
    assert float(sum(parts)) == pytest.approx(float(F.cross_entropy(logits.float(), target)), abs=1e-6)


def test_evaluation_is_never_mixed(tmp_path):
    seen = trainer(tmp_path, lp.mix.SumAugment(k=4))
    predicted = seen.predict(Items())
    assert predicted.predictions.shape == (40, 4)
    assert predicted.label_ids.tolist() == Y.tolist()


class OwnTrainer(transformers.Trainer):
    def get_eval_dataloader(self, eval_dataset=None):
        collator, self.data_collator = self.data_collator, self.data_collator.plain
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collator_in_workers_hears_of_progress(workers, tmp_path):
    mix = lp.mix.Cascade(k=4, num_classes=4, patience=None, shares=[0.4, 0.3, 0.3])
    rows = []

    def loss(outputs, labels, num_items_in_batch=None):
        if labels.is_floating_point():
            rows.append(len(labels))
        return soft_label_loss(outputs, labels, num_items_in_batch)

    with_workers = {"dataloader_num_workers": workers, "dataloader_persistent_workers": True} if workers else {}
    OwnTrainer(
        model(),
        arguments(tmp_path, num_train_epochs=3, save_strategy="no", eval_strategy="epoch", **with_workers),
        train_dataset=Items(),
        eval_dataset=Items(),
        data_collator=MixCollator(mix),
        compute_loss_func=loss,
        callbacks=[MixCallback(mix)],
    ).train()
    assert set(rows[:4]) == {3}  # k = 4 of 10 samples
    assert set(rows[-4:]) == {5 if mix.k == 2 else 10}
    assert mix.k < 4


def test_what_trains_something_else_in_silence_is_said(tmp_path):
    mix = lp.mix.Mixup(num_classes=4)
    given = {"train_dataset": Items(), "eval_dataset": Items(), "data_collator": MixCollator(mix)}
    with pytest.raises(ConfigError, match="binary cross-entropy"):
        transformers.Trainer(model(), arguments(tmp_path / "a"), callbacks=[MixCallback(mix)], **given).train()
    evaluated = transformers.Trainer(
        model(),
        arguments(tmp_path / "b"),
        callbacks=[MixCallback(mix)],
        compute_loss_func=soft_label_loss,
        **given,
    )
    with pytest.raises(ConfigError, match="mixes what is evaluated too"):
        evaluated.evaluate()
    with pytest.raises(ConfigError, match="MixTrainer does so again"):
        MixTrainer(model(), arguments(tmp_path / "c"), mix=mix, **given)
    with pytest.raises(ConfigError, match="the selection accuracy >> batchwise decides which batch comes next"):
        MixTrainer(model(), arguments(tmp_path / "c"), mix="select:accuracy + mixup")
    with pytest.raises(ConfigError, match="7 is no mix: give one"):
        MixTrainer(model(), arguments(tmp_path / "c"), mix=7)
    with pytest.raises(ConfigError, match="give monitor"):
        MixCallback(lp.mix.Cascade(k=4, shares=None))


def test_a_checkpoint_without_the_mix_is_said(tmp_path):
    whole = trainer(tmp_path / "whole", lp.mix.Mixup(), max_steps=3)
    whole.train()
    (tmp_path / "whole" / "checkpoint-3" / "lessonplan.pt").unlink()
    again = trainer(tmp_path / "again", lp.mix.Mixup(), max_steps=6)
    with pytest.raises(ConfigError, match=r"lessonplan\.pt is not there"):
        again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))


def test_a_metric_that_is_not_there_is_said(tmp_path):
    named = trainer(tmp_path, lp.mix.Mixup())
    named.follower.monitor = "eval_acc"
    with pytest.raises(ConfigError, match=r"'eval_acc' is no metric of the evaluation, which has .*eval_accuracy"):
        named.train()


def test_a_plateau_that_nobody_looks_for_is_said(tmp_path):
    given = {"train_dataset": Items(), "eval_dataset": Items(), "mix": lp.mix.Cascade(k=4, shares=None)}
    made = MixTrainer(model(), arguments(tmp_path, max_steps=1), monitor="eval_loss", mode="min", **given)
    with pytest.warns(LessonplanWarning, match="evaluates nothing by itself: give eval_strategy='epoch'"):
        made.train()


def test_evaluation_after_training_changes_nothing(tmp_path):
    """A cascade that would put old weights back, asked again and again, by this metric and by another."""
    mix = lp.mix.Cascade(k=4, patience=1, shares=None)
    trained = trainer(tmp_path, mix, max_steps=3)
    trained.train()
    with torch.no_grad():
        for value in trained.model.parameters():
            value.add_(1.0)
    kept, state = weights(trained.model), mix.state_dict()
    for _ in range(3):
        trained.evaluate()
    assert "test_accuracy" in trained.evaluate(Items(), metric_key_prefix="test")
    assert same(weights(trained.model), kept)
    assert {name: mix.state_dict()[name] for name in ("stage", "waited")} == {
        name: state[name] for name in ("stage", "waited")
    }


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_metric_is_of_one_of_several_data_sets(order, tmp_path):
    mix = lp.mix.Cascade(k=4, patience=1, shares=None)

    def run(monitor, folder):
        made = MixTrainer(
            model(),
            arguments(tmp_path / folder, eval_strategy="epoch", save_strategy="no"),
            train_dataset=Items(),
            eval_dataset={name: Items() for name in order},
            compute_metrics=lambda predicted: {"accuracy": 0.5},
            mix=mix,
            monitor=monitor,
        )
        made.train()

    run("eval_a_accuracy", "known")
    assert (mix.stage, mix.best) == (1, 0.5)  # improved, switched, improved: heard once an epoch
    with pytest.raises(
        ConfigError, match=r"'eval_c_accuracy' is no metric .*eval_a_accuracy.*eval_b_accuracy|b.*a_ac"
    ):
        run("eval_c_accuracy", "unknown")


def test_the_example_runs(tmp_path):
    logging.disable(logging.WARNING)
    try:
        ran = example("hugging_face_trainer").main(epochs=2, out=tmp_path / "t")
    finally:
        logging.disable(logging.NOTSET)
    assert 0 <= ran.evaluate()["eval_accuracy"] <= 1
    assert ran.mix.t == pytest.approx(1.0, abs=0.2)


def test_models_of_transformers_fit_and_select(tmp_path):
    """Their outputs have logits among other things."""
    pixels = X.sigmoid()
    data = lp.data.load((pixels, Y), test=(pixels[:8], Y[:8]))
    net = model()
    assert lp.fit(net, data, "select:accuracy + puzzle:blocks=2", "2 steps", threads=1).result["steps"] == 2
    assert len(list(lp.select.batches(net, (X, Y), lp.select.TopK(0.5), batch_size=10))) == 2
