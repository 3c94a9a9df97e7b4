"""The same seed gives the same weights, bit for bit, as when ``same_weights.json`` was recorded.

The file was recorded before the code was rearranged; record it anew only for a change that is meant to change
training: ``python tests/test_same_weights.py``. Arithmetic differs between processors in the last bits, and in
half precision between some that are alike in single, so each recording also holds loops in plain PyTorch that
tell which it belongs to, and newer ones which processor they were made on. A run in half precision calculates in
single too: it belongs where both loops have their bits. ``--add`` adds what another processor gives, made with
code that gives the weights recorded already. Where no recording has the bits of a run's loops, weights are
compared by sums, to a tolerance.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import lessonplan as lp

RECORD = Path(__file__).with_name("same_weights.json")

MIXES = [
    "sum:k=2",
    "sum:k=3,pairing=permute",
    "sum:k=2,coefficients=dirichlet",
    "sum:k=2,draw=mixed",
    "cascade:k=4,patience=none",
    "gradual:k=3",
    "mixup",
    "mixup:per_sample=true",
    "cutmix",
    "cutout",
    "sample-pairing",
    "manifold",
    "puzzle",
    "mixup|cutmix|sum:k=2",
    "mixup:p=0.5",
    "mixup:until=60%",
]
SELECTIONS = [
    "accuracy",
    "accuracy >> batchwise:batch_size=none,raw_batch_size=run",
    "margin:2",
    "topk:0.5",
    "quantile:0.5",
    "weighted:0.5",
    "qsplit:0.25",
    "random:0.5",
    "uniform:0.5",
    "accuracy >> topk:0.5 >> epochwise",
    "accuracy >> epochwise:resample=true >> topk:0.5 >> batchwise",
    "selective-backprop",
    "infobatch >> epochwise",
    "gradient-norm:0.5",
    "recency-bias",
    "active-bias",
    "matched-random",
]
ORDERS = [
    "multi-attempt:k=3",
    "multi-attempt:k=3,order=weighted,items=samples",
    "by-score:k=4,score=label,order=descending,winners=2",
    "by-score:k=3,order=largest,pool=4,warmup=1ep",
    "loss-delta:candidates=3",
    "loss-delta:candidates=3,on=external,external=8",
    "loss-delta:candidates=3,on=external,external=8,method=first-order",
    "loss-delta:candidates=3,on=external,external=8,method=last-layers,layers=2",
    "loss-delta:candidates=3,on=external,external=8,method=kept-gradients",
    "loss-delta:candidates=2,on=external,external=8,method=per-sample,losers=drop",
    "loss-delta:candidates=3,on=relative,winners=2",
]
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"optimizer": "adam"},
    "ema, clip": {"ema": 0.9, "clip": 0.1},
    "fp16": {"precision": "fp16"},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
    "sum-bce, best": {"loss": "sum-bce", "keep": "best"},
}


def _plans() -> list[str]:
    single = [*MIXES, *(f"select:{s}" for s in SELECTIONS), *(f"order:{o}" for o in ORDERS)]
    some = product(
        ("none", "mixup", "cascade:k=4,patience=none", "manifold", "puzzle"),
        ("none", "accuracy", "topk:0.5 >> epochwise", "infobatch >> epochwise"),
        ("none", "multi-attempt:k=3", "loss-delta:candidates=3,on=external,external=8,method=kept-gradients"),
    )
    joined = [f"select:{s} + order:{o} + {m}" for m, s, o in some if (m, s, o).count("none") < 2]
    return [*single, *joined]


RUNS = [*((plan, "plain") for plan in _plans()), *(("mixup", name) for name in SETTINGS)]


@cache
def _data(device: str | None = None) -> lp.data.Data:
    """48 training, 12 validation and 6 test images of three classes, a bright bar at the class' place."""

    def arrays(per_class: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.arange(3).repeat_interleave(per_class)
        x = torch.randint(0, 200, (len(y), 8, 8), generator=torch.Generator().manual_seed(seed))
        for label in range(3):
            x[y == label, :, 2 * label : 2 * label + 2] += 30
        return x.to(torch.uint8), y

    return lp.data.load(arrays(20, 0), test=arrays(2, 1), val_fraction=0.2, augment="flip", device=device)


def weights_of(plan: str, settings: str, device: str = "cpu") -> list[torch.Tensor]:
    """All weights and buffers behind a run, and how many samples it drew."""
    run = lp.fit(
        "tiny",
        _data(device),
        plan,
        "14 steps",
        batch_size=8,
        threads=1,
        evaluate_every=1,
        device=device,
        **SETTINGS[settings],
    )
    return [*run.model.state_dict().values(), torch.tensor(run.result["raw_samples"])]


_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
LOOPS = ("fp32", *_HALVES)


def _precision(settings: str) -> str:
    return str(SETTINGS[settings].get("precision", "fp32"))


def _belonging(recordings: list[dict[str, Any]], settings: str) -> list[dict[str, Any]]:
    """The recordings that were made where a run with these settings has the bits that it has here.

    Two processors can agree on a few convolutions and not on a network's: a recording that says which processor it
    was made on goes before older ones, which do not say it.
    """
    needed = {"fp32", _precision(settings)}
    found = [r for r in recordings if all(r["loops"].get(loop) == _plain_loop(loop) for loop in needed)]
    sure = [r for r in found if r["loops"].get("processor") == _processor()]
    return sure or [r for r in found if "processor" not in r["loops"]]


@cache
def _plain_loop(precision: str) -> str:
    """A digest of some updates that no code of ours takes part in."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(*size, generator=generator) / 5 for size in ((8, 3, 3, 3), (8, 8, 3, 3), (4, 8 * 64))]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for _ in range(5):
        x = torch.randn(8, 3, 8, 8, generator=generator)
        with torch.autocast("cpu", _HALVES.get(precision, torch.bfloat16), enabled=precision in _HALVES):
            for weight in weights[:2]:
                x = F.batch_norm(F.conv2d(x, weight, padding=1), None, None, training=True).relu()
            loss = F.cross_entropy((x.flatten(1) @ weights[2].T).float(), torch.arange(8) % 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _digest([weight.detach() for weight in weights])


@cache
def _processor() -> str:
    """A digest of what kernels are chosen by: model and flags of the processor; empty where nobody says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return ""
    wanted = ("vendor_id", "cpu family", "model", "flags")
    told = [line for line in lines if line.partition(":")[0].strip() in wanted]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _digest(tensors: list[torch.Tensor]) -> str:
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.contiguous().cpu().numpy().tobytes())
    return content.hexdigest()[:16]


def _sums(tensors: list[torch.Tensor]) -> float:
    """One number that every weight takes part in, each with another factor."""
    flat = torch.cat([tensor.double().flatten() for tensor in tensors])
    return float((flat * torch.linspace(-1, 1, len(flat), dtype=torch.float64)).sum())


@cache
def _recordings() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(RECORD.read_text())
    return found


def calculates_as_first() -> bool:
    """Whether this processor gives the bits of the first recording's, on which other stored runs were made too."""
    return _recordings()[0] in _belonging(_recordings(), "plain")


@pytest.mark.parametrize(("plan", "settings"), RUNS, ids=[f"{plan} ({settings})" for plan, settings in RUNS])
def test_weights_are_as_recorded(plan: str, settings: str) -> None:
    name, weights = f"{plan} ({settings})", weights_of(plan, settings)
    precision = _precision(settings)
    here = _belonging([r for r in _recordings() if name in r["runs"]], settings)
    for recording in here:
        assert _digest(weights) == recording["runs"][name][0]
    if not here:
        assert math.isclose(
            _sums(weights),
            _recordings()[0]["runs"][name][1],
            rel_tol=1e-2 if precision == "fp32" else 3e-2,
            abs_tol=1e-2,
        )


def test_every_run_is_recorded_and_differs_from_the_others() -> None:
    assert len({tuple(sorted(r["loops"].items())) for r in _recordings()}) == len(_recordings())
    for precision in ("fp32", *_HALVES):
        assert any(precision in r["loops"] for r in _recordings())
    halves = {f"{plan} ({settings})" for plan, settings in RUNS if _precision(settings) != "fp32"}
    for recording in _recordings():
        runs = set(recording["runs"])
        whole = not runs <= halves
        assert runs == {f"{plan} ({settings})" for plan, settings in RUNS} if whole else runs
        digests = [digest for digest, _ in recording["runs"].values()]
        # Until 60% of this budget "until" is mixup; weights of the others tell their plans apart.
        assert len(set(digests)) >= len(digests) - (4 if whole else 0)


def record(*, add: bool) -> None:
    """Write the file anew, or add what this processor gives and none before it gave."""
    kept = _recordings() if add else []
    runs = {}
    for plan, settings in RUNS:
        known = _belonging([r for r in kept if f"{plan} ({settings})" in r["runs"]], settings)
        if any("processor" in recording["loops"] for recording in known):
            continue
        weights = weights_of(plan, settings)
        runs[f"{plan} ({settings})"] = (_digest(weights), _sums(weights))
    if runs:
        loops = {name: _plain_loop(name) for name in LOOPS} | {"processor": _processor()}
        kept = [*kept, {"loops": loops, "runs": runs}]
    RECORD.write_text(json.dumps(kept, indent=0) + "\n")


if __name__ == "__main__":
    record(add="--add" in sys.argv)
