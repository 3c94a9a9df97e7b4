"""A training step does not wait for its device, and says how often where it has to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pretended import watching
from waits import of_a_step

import lessonplan as lp
from lessonplan.mix.puzzle.solver import _solution, solve_mask
from lessonplan.mix.puzzle.transport import _plan, transport_plan

MIXES = [
    "sum",
    "sum:coefficients=dirichlet",
    "sum:k=3,pairing=permute",
    "cascade",
    "gradual",
    "mixup",
    "mixup:per_sample=true",
    "cutmix",
    "cutmix:per_sample=true",
    "cutout",
    "sample-pairing",
    "manifold",
    "puzzle",
    "puzzle:adversarial_p=0.5",
    "mixup|cutmix|sum:k=2",
    "mixup >> cutout",
    "mixup:p=0.5",
]
SELECTIONS = [
    "accuracy",
    "margin:2",
    "topk:0.5",
    "weighted:0.5",
    "quantile:0.5",
    "qsplit:0.5",
    "uniform:0.5",
    "accuracy >> topk:0.5",
    "selective-backprop",
    "gradient-norm:0.5",
    "recency-bias",
    "active-bias",
    "matched-random",
]
LOOKS = [
    "candidates=4",
    "candidates=4,on=relative",
    "candidates=4,on=external,external=32",
    "candidates=4,winners=2",
    *(f"candidates=4,on=external,external=32,method={m}" for m in ("first-order", "last-layers", "per-sample")),
]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.9, "clip": 1.0},
        {"precision": "fp16"},
        {"precision": "bf16", "channels_last": True},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_plain_training_never_waits(settings: dict[str, Any]) -> None:
    step = of_a_step("none", **settings)
    assert (step.waits, step.launches > 100) == (0, True), step.lines


def test_samples_that_are_fetched_together_launch_less_and_never_wait() -> None:
    together, each = of_a_step("none", gathered=True), of_a_step("none")
    assert (together.waits, together.launches < each.launches) == (0, True), together.lines


@pytest.mark.parametrize("mix", MIXES)
def test_mixes_never_wait(mix: str) -> None:
    step = of_a_step(mix)
    assert step.waits == 0, step.lines


def test_sums_that_take_all_their_samples_anew_never_wait() -> None:
    step = of_a_step("sum:k=2,draw=mixed", batch_size=4)
    assert step.waits == 0, step.lines


@pytest.mark.parametrize("part", SELECTIONS)
def test_selections_wait_once_a_raw_batch(part: str) -> None:
    step = of_a_step(f"select:{part}")
    assert step.raw_batches >= 1
    assert step.waits <= step.raw_batches, step.lines


def test_a_selection_that_only_remembers_waits_once_an_update() -> None:
    step = of_a_step("select:infobatch >> epochwise")
    assert step.waits == 1, step.lines


@pytest.mark.parametrize(
    "order", ["by-score:k=4,score=label", "multi-attempt:k=4", "multi-attempt:k=4,items=samples"]
)
def test_scores_of_candidates_are_read_at_once(order: str) -> None:
    step = of_a_step(f"order:{order}")
    assert step.waits == 1, step.lines


@pytest.mark.parametrize("look", LOOKS)
def test_look_ahead_waits_once_an_update(look: str) -> None:
    step = of_a_step(f"order:loss-delta:{look}")
    assert 0 < step.waits <= 1, step.lines


def test_stacked_look_ahead_waits_once_an_update() -> None:
    step = of_a_step("order:loss-delta:candidates=4,method=stacked", "fcnet-16")
    assert step.waits == 1, step.lines


def test_kept_gradients_wait_twice() -> None:
    """Which old score is renewed is read, and what became of it."""
    step = of_a_step("order:loss-delta:candidates=4,on=external,external=32,method=kept-gradients")
    assert step.waits == 2, step.lines


KERNELS_BEFORE = {2: 1546, 4: 1650, 8: 2162, 16: 4402}  # one call on 32 x 32 images, at commit 3cb2f29


@pytest.mark.parametrize("blocks", KERNELS_BEFORE)
def test_puzzle_mix_launches_a_quarter_of_its_kernels(blocks: int, device: str) -> None:
    net = lp.models.build_model("tiny", shape=(3, 32, 32), num_classes=10).to(device)
    mix = lp.mix.PuzzleMix(num_classes=10, model=net, blocks=(blocks,))
    x, y = torch.rand(8, 3, 32, 32).to(device), (torch.arange(8) % 10).to(device)
    for _ in range(3):
        with watching() as seen:
            mix(x, y)
    assert seen.launches <= KERNELS_BEFORE[blocks] / 4
    assert seen.number == 0


def test_captured_masks_and_plans_are_those_that_are_computed(device: str) -> None:
    g = torch.Generator().manual_seed(0)
    for _ in range(4):  # the first is computed, the second captured, the others replayed
        unary, mask = torch.rand(3, 5, 4, 4, generator=g), torch.rand(5, 4, 4, generator=g).round()
        unary = unary.cumsum(0)
        across, down = torch.rand(5, 4, 3, generator=g) / 9, torch.rand(5, 3, 4, generator=g) / 9
        saliency = torch.rand(5, 4, 4, generator=g)
        there = [t.to(device) for t in (unary, across, down)]
        assert torch.equal(solve_mask(*there).cpu(), _solution(unary, across, down))
        plan = transport_plan(saliency.to(device), mask.to(device), 0.1)
        assert torch.equal(plan.cpu(), _plan(saliency, mask, 0.1))
