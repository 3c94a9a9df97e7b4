"""The public surface as another project uses it; mypy and pyright read it in their strict modes.

``tests/release/test_types.py`` also gives them mistakes, which they must find.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lessonplan as lp


class Stop(lp.Callback):
    def on_epoch_end(self, trainer: Any) -> None:
        trainer.state.stop_reason = "enough"


def own_loop(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    mix = lp.mix.Cascade(k=4, num_classes=10, patience=None)
    moved: bool = mix.advance(0.5)
    mixed, target = mix(x, y)
    chain = lp.mix.Mixup(alpha=0.4) >> lp.mix.Cutout()
    again, soft = chain(x, y)
    loss: Tensor = lp.losses.SumBCE(k=mix)(model(mixed), target)
    return loss if moved else (model(again) - soft).square().mean()


def trained(folder: Path) -> float:
    plan: lp.Plan = lp.Plan(
        select=lp.select.AccuracyFilter(margin=0.2) >> lp.select.TopK(0.5),
        order=lp.order.LossDelta(candidates=4, warmup="5ep"),
        mix=lp.mix.GradualCascade(k=4),
    )
    data = lp.data.load("digits", per_class=10, val_fraction=0.2)
    classes: int = data.num_classes
    budget: lp.Budget = lp.Budget.parse("2ep")
    run: lp.Run = lp.fit("tiny", data, plan, budget, out=folder, callbacks=[Stop()], batch_size=20)
    found: dict[str, Any] = run.result
    return float(found["test"]["accuracy"]) / classes


def compared(folder: Path) -> list[str]:
    results = lp.compare({"erm": lp.Plan(), "mixup": "mixup:alpha=0.4"}, data="digits", out=folder, seeds=3)
    names: list[str] = [method["name"] for method in results["methods"]]
    advice = lp.advise("digits", out=folder, time="30min")
    verdict: str = advice.verdict
    lp.reproduce("thesis-3.1", "smoke", out=folder)
    leaks = lp.check_data("digits").leaks
    score: float = lp.tune("lr=1e-3..1e-1 log", "digits", out=folder, trials=3).score
    return [*names, verdict, str(leaks), f"{score:.2f}"]


def used(folder: Path) -> Tensor:
    classifier: lp.Classifier = lp.load(folder)
    labels: list[str] = list(classifier.class_names)
    found = lp.find_lr("tiny", "digits")
    suggested: float | None = found.suggested
    network = lp.models.build_model("tiny", shape=(1, 8, 8), num_classes=len(labels), seed=0)
    lr: list[float] = [suggested or 0.0, float(lp.models.count_parameters(network))]
    logits: Tensor = lp.evaluate.predict_logits(network, torch.zeros(4, 1, 8, 8))
    spread: Tensor = lp.ideas.loss_deviation(logits.square().mean(1))
    return spread + torch.tensor(lr) + len(str(lp.order.ByScore(score="loss")))


def chosen(model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loop = lp.batches(model, (x, y), "select:accuracy + mixup", batch_size=32, epochs=5, optimizer=optimizer)
    while not loop.over:
        for inputs, target, weights in loop:
            logits: Tensor = model(inputs)
            loss = (nn.functional.cross_entropy(logits, target, reduction="none") * weights).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            loop.observe(logits)
