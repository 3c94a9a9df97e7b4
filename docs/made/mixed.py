"""Pictures of what each mix does, with scikit-learn's digits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.lab.examples import bind
from lessonplan.mix.puzzle.blocks import enlarge
from made.looks import GREY, ORANGE, TEAL, VIOLET, charts, pixels, said, save, sheet

SHOWN = 6


@cache
def digits() -> lp.data.Data:
    """The pictures: eight by eight pixels."""
    return lp.data.load("digits", per_class=20, augment="none", seed=0)


@cache
def batch(count: int = 12, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Pixels in 0 to 255, and labels, neighbours of different classes."""
    train = digits().train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    order = torch.cat([order[train.labels[order] == label][:2] for label in (3, 8, 0, 5, 7, 1, 9, 2, 6, 4)])
    order = torch.cat([order[::2], order[1::2]])[:count]
    return train.raw(order).float(), train.labels[order]


@cache
def network() -> nn.Module:
    """A small network that knows the digits, for mixes that ask one."""
    return lp.fit("tiny", digits(), None, "10ep", seed=0, threads=1).model


def before_and_after(name: str, folder: Path, mix: lp.mix.Mix, count: int = SHOWN) -> None:
    """A row of pictures, and what the mix makes of them."""
    x, y = batch(count)
    bind(mix, digits(), 0)
    mixed, target = mix(x, y)
    rows = [("a batch", pixels(x), [str(int(label)) for label in y])]
    sheet(
        name, [*rows, ("what the network sees", pixels(mixed[:SHOWN]), [said(t) for t in target[:SHOWN]])], folder
    )


def mixup(folder: Path) -> None:
    """One coefficient a sample, so that several are seen."""
    before_and_after("mixup", folder, lp.mix.Mixup(per_sample=True, seed=4))


def cutmix(folder: Path) -> None:
    """One box a sample."""
    before_and_after("cutmix", folder, lp.mix.CutMix(per_sample=True, seed=1))


def cutout(folder: Path) -> None:
    """Half of the side, which the border may cut."""
    before_and_after("cutout", folder, lp.mix.Cutout(seed=5))


def sample_pairing(folder: Path) -> None:
    """Two pictures and one label."""
    before_and_after("sample-pairing", folder, lp.mix.SamplePairing(seed=2))


def sums(folder: Path) -> None:
    """More and more pictures in a sum."""
    x, y = batch(20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    x, y, rows = x[order], y[order], []
    for k in (1, 2, 4):
        mixed, target = lp.mix.SumAugment(k, num_classes=10)(x[: 5 * k], y[: 5 * k])
        rows.append((f"K = {k}", pixels(mixed), [said(t) for t in target]))
    sheet("sum", rows, folder)


def cascade(folder: Path) -> None:
    """Its stages, with what is seen in each."""
    mix = lp.mix.Cascade(k=4, num_classes=10, patience=None)
    x, y = batch(20)
    pictures, texts = [], []
    for progress in (0.0, 0.2, 0.4, 0.6, 0.7, 0.9):
        mix.advance(progress)
        mixed, _ = mix(x[: 5 * mix.k], y[: 5 * mix.k])
        pictures.append(pixels(mixed)[1])
        texts.append(f"{progress:.0%}\nK = {mix.k}")
    sheet("cascade", [("after so much of the budget the network sees", pictures, texts)], folder)


def gradual(folder: Path) -> None:
    """The weights of the pictures in a sum, over the budget."""
    mix = lp.mix.GradualCascade(k=4, num_classes=10)
    share = np.linspace(0, 1, 201)
    weights = np.zeros((4, len(share)))
    for place, progress in enumerate(share):
        mix.advance(float(progress))
        weights[: len(mix.weights), place] = mix.weights.numpy()
    figure, (ax,) = charts(2.3)
    names = ("first", "second", "third", "fourth")
    colours = (TEAL, ORANGE, VIOLET, GREY)
    ax.stackplot(100 * share, weights, colors=colours, labels=[f"{name} picture" for name in names], alpha=0.85)
    ax.set(xlabel="% of the budget used", ylabel="share of the sum", xlim=(0, 100), ylim=(0, 1))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, "gradual", folder)


def manifold(folder: Path) -> None:
    """Maps of a hidden layer before and after they are mixed."""
    model, (x, y) = network(), batch(4)
    data = digits()
    ready = (x / 255 - data.mean.view(1, -1, 1, 1)) / data.std.view(1, -1, 1, 1)
    layer = model.stage_names[0]  # type: ignore[index]
    kept: list[Tensor] = []
    module = model.get_submodule(layer)

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        kept.append(output.detach().clone())

    handle = module.register_forward_hook(keep)
    with torch.no_grad():
        model(ready)
    handle.remove()
    mix = lp.mix.ManifoldMixup(num_classes=10, layers=[layer], model=model, seed=2)
    same, target = mix(ready, y)
    with torch.no_grad(), mix.forward_context():
        handle = module.register_forward_hook(keep)  # behind the mix' own hook, so that it sees what that made
        model(same)
        handle.remove()
    plain, mixed = kept
    strongest = plain.amax((0, 2, 3)).argsort(descending=True)[:4]
    peak = float(plain[:, strongest].max())
    first = int(target[0].gt(0).sum() > 1) - 1 if len(target) else 0
    other = int(target[first].topk(2).indices[target[first].topk(2).indices != y[first]][0])
    partner = int((y == other).nonzero()[0])
    rows = []
    for title, maps, picture in (
        (f"a {int(y[first])}, and four of its maps in {layer}", plain[first], x[first]),
        (f"a {other}", plain[partner], x[partner]),
        (f"what goes on through the network: {said(target[first]).replace(chr(10), ' + ')}", mixed[first], None),
    ):
        shown = [pixels(picture[None])[0] if picture is not None else None]
        rows.append((title, [*shown, *(np.asarray(maps[c] / peak).clip(0, 1) for c in strongest)], []))
    sheet("manifold-mixup", rows, folder, cell=0.8)


def puzzle(folder: Path) -> None:
    """Both pictures, where it matters, the mask, the result."""
    mix = lp.mix.PuzzleMix(num_classes=10, blocks=(4,), seed=1)
    bind(mix, digits(), 0, network())
    x, y = batch(6)
    found, other, target = mix.explain(x, y)
    rows = []
    for row in range(3):
        maps = [enlarge(s, 8, 8)[row] for s in found.saliency]
        shown = [
            *pixels(x[row : row + 1]),
            *pixels(x[other[row : row + 1]]),
            *(np.asarray(m / m.max()) for m in maps),
            np.asarray(1 - found.mask[row]),
            *pixels(found.mixed[row : row + 1]),
        ]
        texts = ["first", "second", "matters", "matters", "mask", "mixed"] if row == 2 else []
        rows.append((said(target[row]).replace("\n", " + "), shown, texts))
    sheet("puzzle-mix", rows, folder, cell=0.78)


PICTURES = {
    "sum": sums, "cascade": cascade, "gradual": gradual, "mixup": mixup, "manifold-mixup": manifold,
    "puzzle-mix": puzzle, "cutmix": cutmix, "cutout": cutout, "sample-pairing": sample_pairing,
}  # fmt: skip
"""What draws the picture of each card."""
