"""The part of an evaluation that attacks: accuracies, curve over eps, and the table of defences."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from lessonplan.evaluate.adversarial import (
    Perturbed,
    Robustness,
    craft,
    defence_table,
    judge,
    robustness_curve,
)
from lessonplan.evaluate.adversarial.robustness import ADAPTIVE_DRAWS
from lessonplan.evaluation.attacks import AttackSpec, AutoAttack, read_attack, with_margin
from lessonplan.lab.evaluation.pictures import attacked_images
from lessonplan.lab.evaluation.work import BATCH, Work

_SHARES_OF_EPS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
_BATCH = 128
_JUDGEMENTS = 5


def run(work: Work) -> dict[str, Any]:
    """Every attack on the network itself, the last one on the margin too and over a range of eps.

    With test-time sums also each attack on the defence, transferred and adaptive, on fewer images.
    """
    specs = [read_attack(text) for text in work.options.attacks]
    x, y = work.judged()
    model, eps = work.subject.model, work.options.eps
    rows = [{"attack": "none", "loss": None, **asdict(judge(model, x, y, batch_size=BATCH))}]
    measures: dict[str, float] = {"clean_accuracy": rows[0]["accuracy"]}
    found: Perturbed | None = None
    margin = with_margin(specs[-1])
    for spec in [*specs, *([margin] if margin is not None else [])]:
        name = spec.name if spec is not margin else f"{spec.name}_margin"
        found, row = _attack(work, spec, x, y)
        rows.append(row)
        measures[f"{name}_accuracy"] = row["accuracy"]
        measures[f"{name}_top5_accuracy"] = row["top5"]
        measures[f"{name}_no_gradient"] = row["no_gradient"]
        if spec is specs[-1]:
            shown = found
    few = min(len(x), work.options.curve_limit)
    curve = _curve(work, specs[-1], x[:few], y[:few])
    result: dict[str, Any] = {
        "eps": eps,
        "samples": len(x),
        "rows": rows,
        "curve": {"attack": specs[-1].name, "samples": few, "points": curve},
        "measures": measures,
    }
    result["pictures"] = attacked_images(work.subject, x, shown.images, y, eps)
    if work.options.ttsa is not None:
        result["defences"], more = _defences(work, specs, x, y)
        measures |= more
    return result


def _attack(work: Work, spec: AttackSpec, x: Tensor, y: Tensor) -> tuple[Perturbed, dict[str, Any]]:
    """What an attack on the network itself found, and what is left."""
    loss = "its own" if isinstance(spec, AutoAttack) else spec.loss
    work.steps.begin(f"{spec.name}, {loss}", len(x))
    attack = spec.attack(work.generator("attack", spec.name))
    model = work.subject.model
    found = craft(model, x, y, attack, work.options.eps, batch_size=_BATCH, progress=work.steps.advance)
    return found, {"attack": spec.name, "loss": loss, **asdict(judge(model, found, y, batch_size=BATCH))}


def _curve(work: Work, spec: AttackSpec, x: Tensor, y: Tensor) -> list[list[float]]:
    """Accuracy by eps."""
    eps = [share * work.options.eps for share in _SHARES_OF_EPS if share * work.options.eps <= 1.0]
    work.steps.begin(f"{spec.name} over eps", len(x) * len(eps))
    attack = spec.attack(work.generator("curve"))
    found = robustness_curve(work.subject.model, x, y, attack, eps, batch_size=_BATCH, progress=work.steps.advance)
    return [[e, robustness.accuracy] for e, robustness in found.items()]


def _defences(
    work: Work, specs: list[AttackSpec], x: Tensor, y: Tensor
) -> tuple[dict[str, Any], dict[str, float]]:
    """Each randomised defence against attackers who do not know it, and who do.

    AutoAttack is left out: it takes hours against an average of many predictions.
    """
    few = min(len(x), work.options.adaptive_limit)
    x, y = x[:few], y[:few]
    chosen = [spec for spec in specs if not isinstance(spec, AutoAttack)]
    tables: dict[str, Any] = {}
    measures: dict[str, float] = {}
    for name, defence in work.defences("attacks").items():
        if name == "mi_predicted":
            continue  # of the two variants the authors defend with the other one
        work.steps.begin(f"{name}, adaptive", 2 * few * len(chosen))
        generator = work.generator("attack", "defences", name)
        table = defence_table(
            work.subject.model,
            defence,
            x,
            y,
            {spec.name: spec.attack(generator) for spec in chosen},
            work.options.eps,
            judgements=_JUDGEMENTS,
            batch_size=_BATCH,
            progress=work.steps.advance,
        )
        prefix = "" if name == "ttsa" else f"{name}_"
        tables[name] = []
        for row in table:
            robust = min(row.transfer.accuracy, row.adaptive.accuracy)
            tables[name].append(
                {**_flat(row.attack, row.undefended, row.transfer, row.adaptive), "robust": robust}
            )
            start = f"{prefix}{row.attack if row.attack != 'none' else 'clean'}"
            measures[f"{start}_undefended_accuracy"] = row.undefended.accuracy
            measures[f"{start}_transfer_accuracy"] = row.transfer.accuracy
            if row.attack != "none":
                measures[f"{start}_adaptive_accuracy"] = row.adaptive.accuracy
                measures[f"{start}_robust_accuracy"] = robust
    draws = max(ADAPTIVE_DRAWS, work.options.ttsa.copies if work.options.ttsa is not None else 0)
    return {"samples": few, "draws": draws, "judgements": _JUDGEMENTS, "tables": tables}, measures


def _flat(attack: str, undefended: Robustness, transfer: Robustness, adaptive: Robustness) -> dict[str, Any]:
    return {
        "attack": attack,
        "undefended": undefended.accuracy,
        "transfer": transfer.accuracy,
        "adaptive": adaptive.accuracy,
        "no_gradient": adaptive.no_gradient,
    }
