"""Pictures of what is asked of a trained network, on scikit-learn's digits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.evaluate import (
    MixupInference,
    TestTimeSum,
    adversarial,
    gaussian_noise,
    localise,
    max_softmax,
    ood_report,
    predict_logits,
    uniform_noise,
)
from made.looks import GREY, INK, ORANGE, PALE, TEAL, VIOLET, charts, pixels, save

EPS = 0.15
"""Largest change of a pixel in the attacks' picture; digits are far from each other."""


@cache
def data() -> lp.data.Data:
    """Digits, fifty a class to train on."""
    return lp.data.load("digits", per_class=50, augment="none", seed=0)


@cache
def network(mix: str | None = None) -> nn.Module:
    """A small network trained on them for 20 epochs."""
    return lp.fit("tiny", data(), mix, "20ep", seed=0, threads=1).model.eval()


def test_samples(count: int) -> tuple[Tensor, Tensor]:
    """Normalised test pictures, and labels."""
    return data().test.fetch(torch.arange(count))


def raw(x: Tensor) -> Tensor:
    """Normalised pictures in 0 to 255 again."""
    return (x * data().std.view(1, -1, 1, 1) + data().mean.view(1, -1, 1, 1)) * 255


def _bars(name: str, folder: Path, x: Tensor, partners: list[Tensor], plain: Tensor, after: Tensor) -> None:
    """The picture, mixes of it, and what the network says of the one and of the others together."""
    figure, axes = charts(2.5, len(partners) + 2, gridspec_kw={"width_ratios": [1] * (len(partners) + 1) + [2.6]})
    titles = ["tested", *(["mixed"] * len(partners))]
    for ax, title, picture in zip(axes, titles, [x, *partners], strict=False):
        ax.imshow(pixels(raw(picture[None]))[0], cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[], title=title)
        ax.spines[["left", "bottom"]].set_color(PALE)
    place = np.arange(10)
    axes[-1].barh(place + 0.2, plain.numpy(), 0.4, color=GREY, label="plainly")
    axes[-1].barh(place - 0.2, after.numpy(), 0.4, color=TEAL, label="averaged")
    axes[-1].set(yticks=place, xlim=(0, 1), xticks=[0, 0.5, 1], title="probability")
    axes[-1].invert_yaxis()
    axes[-1].legend(loc="lower right", fontsize=9.5)
    save(figure, name, folder)


def test_time_sums(folder: Path) -> None:
    """Sums of two, by a network whose training ended on sums of two."""
    model, (x, _) = network("sum:k=2"), test_samples(40)
    pool = data().train.fetch(torch.arange(len(data().train)))[0]
    generator = torch.Generator().manual_seed(0)
    partners = [(x[7] + pool[int(torch.randint(len(pool), (1,), generator=generator))]) / 2 for _ in range(3)]
    defence = TestTimeSum(model, pool, k=2, copies=16)
    with torch.no_grad():
        _bars("test-time-sums", folder, x[7], partners, model(x[7:8]).softmax(1)[0], defence(x[7:8]).exp()[0])


def mixup_inference(folder: Path) -> None:
    """Mixes with pictures of other classes than the predicted one."""
    model, (x, _) = network("sum:k=2"), test_samples(40)
    pool, labels = data().train.fetch(torch.arange(len(data().train)))
    with torch.no_grad():
        said = int(model(x[7:8]).argmax())
        other = pool[labels != said]
        partners = [(x[7] + other[37 * place]) / 2 for place in range(3)]
        defence = MixupInference(model, pool, labels, variant="other", lam=0.5, copies=30)
        plain, after = model(x[7:8]).softmax(1)[0], defence(x[7:8]).exp()[0]
    _bars("mixup-inference", folder, x[7], partners, plain, after)


def attacks(folder: Path) -> None:
    """A picture, what is added, the result; and how many stay right, by the largest change."""
    x, y = test_samples(200)
    x, sizes = raw(x).clamp(0, 255) / 255, [0.0, 0.03, 0.06, 0.09, 0.12, EPS]
    figure, axes = charts(2.6, 4, gridspec_kw={"width_ratios": [1, 1, 1, 2.4]})
    for mix, name, colour in ((None, "plain training", GREY), ("cascade:k=4", "cascade from 4", TEAL)):
        model = adversarial.PixelModel(network(mix), data().mean, data().std)
        curve = adversarial.robustness_curve(model, x, y, adversarial.pgd, sizes)
        axes[3].plot(sizes, [100 * curve[size].accuracy for size in sizes], color=colour, label=name, marker="o")
        if mix is None:
            attacked = adversarial.pgd(model, x, y, EPS).images
            before, after = model(x).argmax(1), model(attacked).argmax(1)
            row = int(((before == y) & (after != y)).nonzero()[0])
            shown = (x[row, 0], (attacked - x)[row, 0] / (2 * EPS) + 0.5, attacked[row, 0])
            titles = (f"says {int(before[row])}", "added", f"says {int(after[row])}")
    for ax, picture, title in zip(axes, shown, titles, strict=False):
        ax.imshow(picture.detach().numpy(), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[], title=title)
        ax.spines[["left", "bottom"]].set_color(PALE)
    axes[3].set(xlabel="largest change of a pixel", title="% right under PGD", ylim=(0, 102))
    axes[3].legend(fontsize=9.5)
    save(figure, "attacks", folder)


def ood(folder: Path) -> None:
    """The confidence in test digits and in noise."""
    model, (x, _) = network(), test_samples(400)
    generator = torch.Generator().manual_seed(0)
    other = {
        "uniform noise": uniform_noise(400, (1, 8, 8), generator=generator),
        "Gaussian noise": gaussian_noise(400, (1, 8, 8), generator=generator),
    }
    scores = {"test digits": max_softmax(predict_logits(model, x))}
    for name, noise in other.items():
        ready = (noise - data().mean.view(1, -1, 1, 1)) / data().std.view(1, -1, 1, 1)
        scores[name] = max_softmax(predict_logits(model, ready))
    report = ood_report(scores["test digits"], {name: scores[name] for name in other})
    figure, (ax,) = charts(2.6)
    for (name, score), colour in zip(scores.items(), (TEAL, ORANGE, VIOLET), strict=True):
        label = f"{name}, AUROC {100 * report[name].auroc:.0f}%" if name in report else name
        ax.hist(
            score.tolist(), bins=np.linspace(0, 1, 41), histtype="step", linewidth=2, color=colour, label=label
        )
    ax.set(xlabel="highest probability", ylabel="of 400", xlim=(0.1, 1.01))
    ax.legend(loc="upper left")
    save(figure, "ood", folder)


def localisation(folder: Path) -> None:
    """Digits on clutter, where the network looks, and the boxes from that."""
    x, y = test_samples(60)
    generator = torch.Generator().manual_seed(2)
    canvas, boxes = localise.paste_on_clutter(raw(x) / 255, (20, 20), pieces=2, generator=generator)
    ready = (canvas - data().mean.view(1, -1, 1, 1)) / data().std.view(1, -1, 1, 1)
    maps = localise.resize_maps(localise.cam(network(), ready, y), (20, 20))
    found = localise.max_box_accuracy(maps, boxes)
    shown = 4
    figure, _ = charts(2.9)
    figure.clear()
    axes = figure.subplots(2, shown)
    for place in range(shown):
        top, bottom, left, right = boxes[place].tolist()
        for row, picture in ((0, canvas[place, 0]), (1, maps[place])):
            ax = axes[row][place]
            ax.imshow(picture.detach().numpy(), cmap="gray_r" if row == 0 else "viridis", vmin=0, vmax=1)
            ax.plot(
                [left - 0.5, right - 0.5, right - 0.5, left - 0.5, left - 0.5],
                [top - 0.5, top - 0.5, bottom - 0.5, bottom - 0.5, top - 0.5], color=ORANGE, linewidth=2,
            )  # fmt: skip
            ax.set(xticks=[], yticks=[])
    axes[0][0].set_ylabel("picture")
    axes[1][0].set_ylabel("looks at")
    figure.suptitle(
        f"true boxes; {100 * found.best:.0f}% of 60 found (IoU .5, best threshold)", fontsize=11, color=INK
    )
    save(figure, "localisation", folder)


PICTURES = {
    "test-time-sums": test_time_sums, "mixup-inference": mixup_inference, "attacks": attacks, "ood": ood,
    "localisation": localisation,
}  # fmt: skip
"""What draws the picture of each card."""
