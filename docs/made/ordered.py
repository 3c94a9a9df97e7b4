"""Pictures of what orders do, on scikit-learn's digits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

import lessonplan as lp
from made.looks import GREY, INK, ORANGE, TEAL, charts, save
from made.selected import small


@cache
def data() -> lp.data.Data:
    """Forty digits of each class, and ten to validate on."""
    return lp.data.load("digits", per_class=40, val_per_class=10, augment="none", seed=0)


def followed(plan: str | None, epochs: int, lr: float = 0.05) -> tuple[list[float], list[float], list[float]]:
    """Of each update: its batch's loss, the loss on validation samples behind it, and the cost so far."""
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    x, y = data().val.fetch(torch.arange(len(data().val)))
    loop = lp.batches(model, data(), plan, batch_size=20, epochs=epochs, optimizer=optimizer, seed=0)
    own, judged, cost = [], [], []
    while not loop.over:
        for shown, target, _ in loop:
            loss = F.cross_entropy(model(shown), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            own.append(loss.item())
            cost.append(float(loop.counters.cost))
            with torch.no_grad():
                judged.append(float(F.cross_entropy(model(x), y)))
    return own, judged, cost


def multi_attempt(folder: Path) -> None:
    """Losses of the batches of three epochs, as they come."""
    figure, (ax,) = charts(2.5)
    for plan, name, colour in (
        (None, "plain training", GREY),
        ("order:multi-attempt:k=16", "smallest of 16", TEAL),
    ):
        own, _, _ = followed(plan, 3)
        ax.plot(range(1, len(own) + 1), own, color=colour, label=name, linewidth=1.8)
    for end in (20.5, 40.5):
        ax.axvline(end, color=INK, linewidth=0.7, linestyle=(0, (2, 3)))
    ax.set(xlabel="update (an epoch is 20)", ylabel="loss of its batch")
    ax.legend()
    save(figure, "multi-attempt", folder)


def teacher(folder: Path) -> None:
    """What the teacher loses on the batches of three epochs, as they come."""
    x, y = data().train.fetch(torch.arange(len(data().train)))
    model = small(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    figure, (ax,) = charts(2.5)
    for name, order, colour in (
        ("plain training", None, GREY),
        ("easiest of 16", lp.order.TeacherLed(run=lp.select.holdout_losses(model, data().train), k=16), TEAL),
    ):
        student = small()
        optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
        loop = lp.batches(
            student, data(), lp.Plan(order=order), batch_size=20, epochs=3, optimizer=optimizer, seed=0
        )
        seen = []
        while not loop.over:
            for shown, target, _ in loop:
                with torch.no_grad():
                    seen.append(float(F.cross_entropy(model.eval()(shown), target)))
                optimizer.zero_grad()
                F.cross_entropy(student(shown), target).backward()
                optimizer.step()
        ax.plot(range(1, len(seen) + 1), seen, color=colour, label=name, linewidth=1.8)
    for end in (20.5, 40.5):
        ax.axvline(end, color=INK, linewidth=0.7, linestyle=(0, (2, 3)))
    ax.set(xlabel="update (an epoch is 20)", ylabel="the teacher's loss")
    ax.legend()
    save(figure, "teacher", folder)


def loss_delta(folder: Path) -> None:
    """The loss on validation samples, by updates and by what they cost."""
    figure, axes = charts(2.8, 2, sharey=True)
    for plan, name, colour in (
        (None, "plain training", GREY),
        ("order:loss-delta:candidates=8,on=external,external=100", "best of 8", TEAL),
        ("order:loss-delta:candidates=8,on=external,external=100,method=kept-gradients", "kept-gradients", ORANGE),
    ):
        _, judged, cost = followed(plan, 6)
        axes[0].plot(range(1, len(judged) + 1), judged, color=colour, label=name, linewidth=1.8)
        axes[1].plot([value / 1000 for value in cost], judged, color=colour, linewidth=1.8)
    axes[0].set(xlabel="updates", ylabel="loss, validation samples")
    axes[1].set(xlabel="cost, in thousands", xlim=(0, 30))
    axes[0].legend()
    save(figure, "loss-delta", folder)


def perfect(folder: Path) -> None:
    """All orders of six batches."""
    train = data().train
    rows = torch.cat([(train.labels == label).nonzero().flatten()[:24] for label in (3, 8)])
    x, y = train.fetch(rows)
    others = torch.cat([(data().test.labels == label).nonzero().flatten() for label in (3, 8)])
    engine = lp.order.Engine(
        small(), x, y, *data().test.fetch(others), optimizer=lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)
    )
    [tree] = lp.order.perfect_ordering(engine, batch_size=8, epochs=1)
    figure, (ax,) = charts(2.5)
    accuracy = 100 * tree.accuracy
    ax.hist(accuracy.tolist(), bins=40, color=TEAL)
    ax.set(
        xlabel=f"accuracy after one epoch, %, on {len(others)} other digits", ylabel=f"of {len(accuracy)} orders"
    )
    save(figure, "perfect-ordering", folder)


PICTURES = {
    "multi-attempt": multi_attempt,
    "teacher": teacher,
    "loss-delta": loss_delta,
    "perfect-ordering": perfect,
}
"""What draws the picture of each card."""
