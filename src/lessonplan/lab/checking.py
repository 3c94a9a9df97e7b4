"""The public harness: does a part of the user's own keep what every part of ours keeps?"""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.data import load as load_data
from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.mix import Mix, parse_mix
from lessonplan.models import build_model
from lessonplan.network.network import Network
from lessonplan.order import Orderer, parse_order
from lessonplan.parts.own import load_own
from lessonplan.plan import Plan
from lessonplan.progress import step
from lessonplan.select import Filter, Part, Scored, Selector, parse_select
from lessonplan.train import Callback, fit

CLASSES, SIDE = 10, 8
_UPDATES = 8


@dataclass
class Finding:
    """What came of a check.

    Attributes:
        check: what was asked.
        problem: what is wrong, or nothing.
    """

    check: str
    problem: str = ""


def check_part(text: str) -> list[Finding]:
    """Try a mix, filter, selector, order or network of the user's own.

    Args:
        text: its address, ``module:Class`` or ``FILE.py:Class``, options after another colon.

    Returns:
        a finding a check; a problem that keeps a check from running is its finding.

    Raises:
        ConfigError: nothing is at the address, or nothing that can be checked.
    """
    target = load_own(text).target
    if isinstance(target, type) and issubclass(target, Mix):
        checks = _mix_checks(text)
    elif isinstance(target, type) and issubclass(target, Part):
        checks = _selection_checks(text, target)
    elif isinstance(target, type) and issubclass(target, Orderer):
        checks = {"stopped and resumed, it ends with the same weights": lambda: _resumes(f"order:{text}")}
        checks = {"an epoch hands out samples of the training set": lambda: _orders(text), **checks}
    elif isinstance(target, type) and not issubclass(target, nn.Module):
        raise ConfigError(f"{text} is no mix, filter, selector, order or network: there is nothing to check it by")
    else:
        checks = _model_checks(text)
    found = []
    with step("checking", len(checks), "checks", patience=0.0) as line:
        for check, work in checks.items():
            line.update(what=check)
            found.append(_find(check, work))
            line.update(advance=1)
    return found


def _find(check: str, work: Callable[[], None]) -> Finding:
    try:
        work()
    except (AssertionError, LessonplanError) as error:
        return Finding(check, str(error) or "it does not hold")
    except Exception as error:  # the user's code may raise anything
        return Finding(check, f"{type(error).__name__}: {error}")
    return Finding(check)


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


# -- mixes -----------------------------------------------------------------------------------------------


def _mix_checks(text: str) -> dict[str, Callable[[], None]]:
    return {
        "x is (M, ...) floating point, targets are (M, C)": lambda: _shapes(text),
        "targets are shares that sum to 1": lambda: _shares(text),
        "inputs stay as they are": lambda: _unchanged(text),
        "whole-number images and soft targets will do": lambda: _other_inputs(text),
        "its state goes through a file": lambda: _mix_state(text),
        "copies and other processes go on alike": lambda: _mix_copies(text),
        "stopped and resumed, it ends with the same weights": lambda: _resumes(text),
    }


def _mix(text: str) -> Mix:
    mix = parse_mix(text)
    assert mix is not None
    mix.finish_setup(CLASSES, 0)
    mix.attach(Network(_network()))
    return mix


def _batch(n: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, SIDE, SIDE, generator=g), torch.randint(CLASSES, (n,), generator=g)


def _results(text: str) -> Iterator[tuple[int, Tensor, Tensor]]:
    mix = _mix(text)
    for n in (12, 13, 16):
        yield n, *mix(*_batch(n))


def _shapes(text: str) -> None:
    for n, x, target in _results(text):
        _expect(
            x.is_floating_point() and x.shape[1:] == (1, SIDE, SIDE),
            f"{n} images (1, {SIDE}, {SIDE}) became {x.dtype} of shape {tuple(x.shape)}",
        )
        _expect(
            target.is_floating_point() and target.shape == (len(x), CLASSES),
            f"targets of {len(x)} mixed samples have shape {tuple(target.shape)} and type {target.dtype}",
        )


def _shares(text: str) -> None:
    for _, _, target in _results(text):
        _expect(
            bool(torch.isfinite(target).all() and (target >= -1e-6).all()), "a target is negative or not finite"
        )
        sums = target.double().sum(1)
        _expect(bool((sums - 1).abs().max() < 1e-4), f"targets sum to {sums.min():.4f} to {sums.max():.4f}")


def _unchanged(text: str) -> None:
    x, y = _batch()
    before = x.clone(), y.clone()
    _mix(text)(x, y)
    _expect(torch.equal(x, before[0]) and torch.equal(y, before[1]), "the batch was changed in place")


def _other_inputs(text: str) -> None:
    x, y = _batch()
    for images in ((x.abs() * 50).to(torch.uint8), x.double()):
        _expect(_mix(text)(images, y)[0].is_floating_point(), f"images of type {images.dtype} stay whole numbers")
    soft = nn.functional.one_hot(y, CLASSES).float()
    _expect(_mix(text)(x, soft)[1].shape[1] == CLASSES, "soft targets come out with another number of classes")


def _mix_state(text: str) -> None:
    ours = _mix(text)
    ours(*_batch())
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    theirs = _mix(text)
    theirs.load_state_dict(torch.load(file, weights_only=True))
    _same(ours, theirs)


def _mix_copies(text: str) -> None:
    ours = _mix(text)
    ours(*_batch())
    copied, sent = copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))
    for other in (copied, sent):
        other.attach(Network(_network()))
        _expect(other.config() == ours.config(), "a copy has another identity")
        _same(copy.deepcopy(ours), other)


def _same(ours: Mix, theirs: Mix) -> None:
    for seed in range(3):
        (a, b), (c, d) = ours(*_batch(seed=seed)), theirs(*_batch(seed=seed))
        _expect(torch.equal(a, c) and torch.equal(b, d), "it goes on with other draws")


# -- selections ------------------------------------------------------------------------------------------


def _selection_checks(text: str, target: type) -> dict[str, Callable[[], None]]:
    about = "a filter gives one bool a sample" if issubclass(target, Filter) else "a selector gives positions"
    return {
        about: lambda: _chooses(text),
        "the same state and generator make the same choice": lambda: _chooses_again(text),
        "stopped and resumed, it ends with the same weights": lambda: _resumes(f"select:{text}"),
    }


def _scored(n: int) -> Scored:
    g = torch.Generator().manual_seed(n)
    logits, targets = torch.randn(n, CLASSES, generator=g), torch.randint(CLASSES, (n,), generator=g)
    return Scored(torch.arange(n), targets, logits, nn.functional.cross_entropy(logits, targets, reduction="none"))


def _part(text: str) -> Part:
    (selection,) = parse_select(text).selections()
    (part,) = selection.parts
    part.make_room(40, CLASSES)
    return part


def _choice(part: Part, n: int) -> tuple[Tensor, Tensor | None]:
    scored, generator = _scored(n), torch.Generator().manual_seed(0)
    if isinstance(part, Filter):
        return part.mask(scored, generator), None
    assert isinstance(part, Selector)
    return part(part.score(scored), part.number(n), generator)


def _chooses(text: str) -> None:
    for n in (1, 7, 40):
        part = _part(text)
        found, weights = _choice(part, n)
        if isinstance(part, Filter):
            _expect(found.shape == (n,) and found.dtype == torch.bool, f"{n} samples: {found.dtype} {found.shape}")
            continue
        _expect(found.ndim == 1 and not found.is_floating_point(), f"positions are {found.dtype} {found.shape}")
        inside = len(found) > 0 and int(found.min()) >= 0 and int(found.max()) < n
        _expect(inside, f"positions among {n} candidates lie outside of [0, {n}), or there are none")
        if weights is not None:
            _expect(weights.shape == found.shape, f"{len(found)} positions and {len(weights)} factors")
            _expect(bool(torch.isfinite(weights).all()), "factors of losses are not finite")


def _chooses_again(text: str) -> None:
    part = _part(text)
    part.observe(_scored(40))
    again = _part(text)
    again.load_state_dict(copy.deepcopy(part.state_dict()))
    _expect(
        torch.equal(_choice(part, 40)[0], _choice(again, 40)[0]), "another choice after its state was restored"
    )


# -- orders ----------------------------------------------------------------------------------------------


class _Seen(Callback):
    """Which samples were trained on."""

    def __init__(self) -> None:
        self.indices: list[int] = []

    def on_train_start(self, trainer: Any) -> None:
        observe = trainer.supply.observe

        def noted(batch: Any, step: Any) -> None:
            self.indices += batch.indices.tolist()
            observe(batch, step)

        trainer.supply.observe = noted


def _orders(text: str) -> None:
    order = parse_order(text)
    seen = _Seen()
    fit("tiny", _data(), Plan(order=order), "1ep", batch_size=10, threads=1, callbacks=[seen])
    _expect(len(seen.indices) > 0, "an epoch hands out nothing")
    _expect(set(seen.indices) <= set(range(80)), "batches hold samples that are not in the training set")


# -- networks --------------------------------------------------------------------------------------------


def _model_checks(text: str) -> dict[str, Callable[[], None]]:
    return {
        "it takes images and gives logits": lambda: _builds(text),
        "the same seed gives the same weights": lambda: _same_seed(text),
        "every parameter gets a gradient": lambda: _gradients(text),
        "stopped and resumed, it ends with the same weights": lambda: _resumes("none", text),
    }


def _built(text: str, seed: int = 0) -> nn.Module:
    return build_model(text, shape=(1, SIDE, SIDE), num_classes=CLASSES, seed=seed)


def _builds(text: str) -> None:
    logits = _built(text)(_batch()[0])
    _expect(logits.shape == (12, CLASSES), f"12 images give {tuple(logits.shape)}")


def _same_seed(text: str) -> None:
    one, other = (_built(text).state_dict() for _ in range(2))
    _expect(all(torch.equal(one[name], other[name]) for name in one), "two networks of one seed differ")


def _gradients(text: str) -> None:
    model = _built(text)
    model(_batch()[0]).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    _expect(not without, f"no gradient reaches {', '.join(without[:5])}")


# -- resume ----------------------------------------------------------------------------------------------


class _Stop(Callback):
    """Ends a run as a kill would."""

    def on_batch_end(self, trainer: Any) -> None:
        if trainer.counters.steps == _UPDATES // 2 + 1:
            raise InterruptedError


def _resumes(plan: str, model: str = "tiny") -> None:
    options: dict[str, Any] = {"batch_size": 10, "threads": 1, "checkpoint_every": "2 steps"}
    budget = f"{_UPDATES} steps"
    whole = fit(model, _data(), plan, budget, **options)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(InterruptedError):
            fit(model, _data(), plan, budget, out=Path(folder) / "run", callbacks=[_Stop()], **options)
        resumed = fit(model, _data(), plan, budget, out=Path(folder) / "run", **options)
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    _expect(not different, f"{len(different)} of {len(ours)} tensors differ: state_dict leaves something out")


def _data() -> Any:
    return load_data("digits", per_class=10, val_fraction=0.2, seed=0)


def _network() -> nn.Module:
    return build_model("tiny", shape=(1, SIDE, SIDE), num_classes=CLASSES, seed=0)
