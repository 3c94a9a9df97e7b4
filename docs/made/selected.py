"""Pictures of what each selection trains on, in a short run on scikit-learn's digits."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
from torch import Tensor, nn

import lessonplan as lp
from made.looks import GREY, INK, PALE, TEAL, charts, save

EPOCHS, PARTS = 12, 10
SPELLED = {
    "accuracy-filter": "accuracy", "margin-filter": "margin:margin=0.2", "top-k": "topk:0.5",
    "top-quantile": "quantile:0.5", "loss-weighted": "weighted:0.5", "q-split": "qsplit:0.5",
    "random-subset": "random:0.5", "selective-backprop": "selective-backprop:1",
    "infobatch": "infobatch >> epochwise", "gradient-norm": "gradient-norm:0.3", "rho-loss": "rho-loss:0.5",
    "recency-bias": "recency-bias:0.5 >> epochwise", "active-bias": "active-bias:0.5 >> epochwise",
}  # fmt: skip
"""The selection of each card's picture, as it is written."""


@cache
def samples() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Twenty digits of each class to train on, and as many others for the holdout model of RHO-LOSS."""
    data = lp.data.load("digits", per_class=40, augment="none", seed=0)
    x, y = data.train.fetch(torch.arange(len(data.train)))
    first = torch.cat([(y == label).nonzero().flatten()[:20] for label in range(10)])
    rest = torch.tensor(sorted(set(range(len(y))) - set(first.tolist())))
    return x[first], y[first], x[rest], y[rest]


def small(seed: int = 0) -> nn.Module:
    """A network with one hidden layer."""
    model: nn.Module = lp.models.build_model("fcnet-64", shape=(1, 8, 8), num_classes=10, seed=seed)
    return model


@cache
def holdout() -> Tensor:
    """Losses of the training samples under a model that has seen others."""
    _, _, x, y = samples()
    model = small(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(model(samples()[0]), samples()[1], reduction="none")


@cache
def trained_on(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each sample was trained on in each epoch, and its loss before that epoch: both ``(N, epochs)``."""
    x, y, _, _ = samples()
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    plan = lp.select.parse_select(text)
    for selection in plan.selections():
        for part in selection.parts:
            if isinstance(part, lp.select.RhoLoss):
                part.give_holdout(holdout())
    loop = lp.batches(model, (x, y), plan, batch_size=20, epochs=EPOCHS, optimizer=optimizer, seed=0)
    counts, losses = np.zeros((len(x), EPOCHS)), np.zeros((len(x), EPOCHS))
    while not loop.over:
        epoch = loop.epoch
        with torch.no_grad():
            losses[:, epoch] = F.cross_entropy(model.eval()(x), y, reduction="none").numpy()
        model.train()
        for shown, target, weights in loop:
            rows = torch.cdist(shown.flatten(1), x.flatten(1)).argmin(1)  # which samples these are
            np.add.at(counts[:, epoch], rows.numpy(), 1)
            logits = model(shown)
            loss = (F.cross_entropy(logits, target, reduction="none") * weights).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loop.observe(logits)
    return counts, losses


def selection(text: str, name: str, folder: Path) -> None:
    """Left which samples each epoch trained on, right how that depends on their losses."""
    counts, losses = trained_on(text)
    figure, (left, right) = charts(2.7, 2, gridspec_kw={"width_ratios": [1.15, 1]})
    order = losses.mean(1).argsort()
    colours = LinearSegmentedColormap.from_list("often", ["white", TEAL])
    left.imshow(
        np.minimum(counts[order], 2), aspect="auto", origin="lower", cmap=colours, vmin=0, vmax=1.3,
        extent=(0.5, EPOCHS + 0.5, 0, len(order)), interpolation="nearest",
    )  # fmt: skip
    left.set(xlabel="epoch", ylabel="200 samples, by loss", xticks=[1, 4, 8, 12], yticks=[], title="trained on")
    ranks = losses.argsort(0).argsort(0) * PARTS // len(losses)
    often = [counts[ranks == part].mean() for part in range(PARTS)]
    right.bar(np.arange(PARTS) + 0.5, often, 0.86, color=TEAL)
    right.axhline(1, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)))
    right.text(0.1, 1.02, "plain training", color=INK, fontsize=9.5, va="bottom")
    right.set(xlabel="tenths, low to high loss", xticks=[], title="times an epoch", ylim=(0, max(1.25, *often)))
    for ax in (left, right):
        ax.spines[["left", "bottom"]].set_color(PALE)
    save(figure, name, folder)


PICTURES = {name: partial(selection, text, name) for name, text in SPELLED.items()}
"""What draws the picture of each card."""
