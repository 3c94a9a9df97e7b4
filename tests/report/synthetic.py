"""A comparison folder written by hand, as the lab would leave it; used by the tests of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import stats

NASTY = "<script>alert(1)</script>"
NAMES = [f"digit {index}" for index in range(10)]


def _losses(loss: float) -> dict[str, float]:
    spread = {"loss_best": 0.02, "loss_q50": 0.6, "loss_q90": 2.2, "loss_q99": 4.0, "loss_worst": 6.0}
    return {"loss": loss} | {key: loss * factor for key, factor in spread.items()}


def write_run_folder(
    folder: Path, *, seed: int = 0, skill: float = 0.9, epochs: int = 20, finished: bool = True, val: bool = True
) -> dict[str, Any]:
    """One run; returns the row that ``results.json`` keeps of it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, int(1000 * skill)])
    lines = []
    for epoch in range(1, epochs + 1):
        reached = skill * (1 - np.exp(-epoch / (epochs / 4))) + rng.normal(0, 0.012)
        line: dict[str, Any] = {
            "epoch": epoch, "step": 10 * epoch, "samples": 1500 * epoch, "raw_samples": 3000 * epoch,
            "cost": 4500 * epoch, "lr": 0.1 * (1 + np.cos(np.pi * epoch / epochs)) / 2,
            "train": {**_losses(2.3 - 2.1 * reached), "accuracy": min(1.0, 1.04 * reached)},
            "param_norm": 12 + 9 * skill * (1 - np.exp(-epoch / epochs)) + rng.normal(0, 0.1),
            "mix": {"k": 4 if epoch < epochs / 2 else 2},
            "system": {"seconds": 0.4 * epoch, "samples_per_second": 3600 + rng.normal(0, 90), "memory_mb": 410.0},
        }  # fmt: skip
        if val:
            line["val"] = {**_losses(2.4 - 2.0 * reached), "accuracy": min(1.0, float(reached))}
        lines.append(json.dumps(line))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + ("\n" if lines else ""))
    (folder / "config.yaml").write_text("model: tiny\nmix: sum:k=4\ntrainer:\n  lr: 0.1\n  budget: 30k samples\n")
    row = {
        "seed": seed, "status": "finished", "error": None, "test_accuracy": skill + float(rng.normal(0, 0.008)),
        "test_loss": 0.5 - 0.3 * skill, "val_accuracy": skill if val else None, "steps": 10 * epochs,
        "epochs": epochs, "samples": 1500 * epochs, "raw_samples": 3000 * epochs, "cost": 4500 * epochs,
        "seconds": 0.4 * epochs + seed, "param_norm": 12 + 6 * skill,
    }  # fmt: skip
    if finished:
        confusion = np.diag(rng.integers(70, 90, 10)) + rng.integers(0, 3, (10, 10))
        right = np.diag(confusion) / confusion.sum(1)
        test = {
            **_losses(row["test_loss"]), "accuracy": row["test_accuracy"], "top5": 0.99,
            "calibration_error": 0.031,
            "per_class_accuracy": right.tolist(), "confusion": confusion.tolist(),
        }  # fmt: skip
        result = {
            key: row[key] for key in ("status", "steps", "epochs", "samples", "raw_samples", "cost", "seconds")
        }
        result |= {"stopped": "budget", "test": test, "class_names": NAMES, "param_norm": row["param_norm"]}
        (folder / "result.json").write_text(json.dumps(result))
    return row


def _t_interval(values: np.ndarray) -> list[float] | None:
    if len(values) < 2:
        return None
    return [float(end) for end in stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))]


def method_entry(name: str, runs: list[dict[str, Any]], base: dict[int, float] | None) -> dict[str, Any]:
    """What ``results.json`` says of a method, from its runs and the reference's accuracies by seed."""
    done = [run for run in runs if run["status"] == "finished"]
    scores = np.array([run["test_accuracy"] for run in done])
    entry: dict[str, Any] = {"name": name, "description": f"a plan with {name}", "runs": runs, "n": len(done)}
    entry |= {key: float(np.mean([run[key] for run in done])) if done else None
              for key in ("test_loss", "cost", "seconds", "param_norm")}  # fmt: skip
    entry |= {"mean": float(scores.mean()) if done else None, "ci_t": _t_interval(scores)}
    entry["ci_bootstrap"] = [float(scores.min()), float(scores.max())] if len(done) > 1 else None
    entry["difference"] = None
    entry["finding"] = f"{name} was tried with {len(done)} seeds."
    if base is not None and len(done) > 1:
        gaps = np.array([run["test_accuracy"] - base[run["seed"]] for run in done])
        bounds = _t_interval(gaps)
        assert bounds is not None
        verdict = "undecided"
        p = float(stats.ttest_1samp(gaps, 0).pvalue)
        if 3 * p < 0.05:
            verdict = "better" if bounds[0] > 0 else "worse"
        entry["difference"] = {
            "mean": float(gaps.mean()), "ci_t": bounds, "ci_bootstrap": [float(gaps.min()), float(gaps.max())],
            "p": p, "p_holm": min(1.0, 3 * p), "verdict": verdict,
        }  # fmt: skip
    return entry


def write_comparison_folder(
    root: Path, *, skills: dict[str, float] | None = None, seeds: int = 5, val: bool = True, extras: bool = True
) -> dict[str, Any]:
    """A whole comparison; returns the content of its ``results.json``."""
    skills = skills or {"erm": 0.85, "mixup": 0.91, "sum": 0.853, NASTY: 0.87, "cascade": 0.8}
    methods: list[dict[str, Any]] = []
    failures = []
    base: dict[int, float] | None = None
    for position, (name, skill) in enumerate(skills.items()):
        runs = []
        for seed in range(seeds):
            folder = f"runs/m{position}-seed{seed}-0a1b2c3d"
            runs.append({**write_run_folder(root / folder, seed=seed, skill=skill, val=val), "folder": folder})
        methods.append(method_entry(name, runs, base))
        if base is None:
            base = {run["seed"]: run["test_accuracy"] for run in runs}
    if extras:
        broken = methods[-1]["runs"][-1]
        broken |= {
            "status": "failed",
            "error": "NaN in the loss at step 40 <b>",
            "test_accuracy": None,
            "test_loss": None,
        }
        methods[-1] = method_entry(methods[-1]["name"], methods[-1]["runs"], base)
        metrics = root / broken["folder"] / "metrics.jsonl"
        metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:4]))
        (root / broken["folder"] / "result.json").unlink()
        failures = [{"method": methods[-1]["name"], **{key: broken[key] for key in ("seed", "error", "folder")}}]
        _write_extras(root)
    results = {
        "schema": 1, "title": "Does mixing help on few digits?", "created": "2025-03-01T10:00:00+00:00",
        "reference": "erm", "metric": "test_accuracy", "level": 0.95, "methods": methods, "failures": failures,
        "config": {"data": {"source": "digits", "per_class": 10}, "budget": "30k samples",
                   "methods": list(skills)},
        "environment": {"lessonplan": "0.1.0", "torch": "2.13.0", "python": "3.11", "platform": "Linux",
                        "cores": 2, "cpu": "a processor", "device": "cpu", "threads_per_run": 1},
    }  # fmt: skip
    (root / "results.json").write_text(json.dumps(results))
    return results


def _write_extras(root: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, name, about in (
        ("examples", "mixup", {"caption": "two images, 0.70 and 0.30"}),
        ("examples", "erm", {"caption": "erm: images as they are"}),
        ("figures", "figure-3-1", {"title": "Figure 3.1", "caption": "accuracy against K"}),
    ):
        (root / folder).mkdir(exist_ok=True)
        pixels = rng.integers(0, 255, (60, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / folder / f"{name}.png")
        (root / folder / f"{name}.json").write_text(json.dumps(about))
    source = {
        "title": "Thesis, section 3.1", "citation": "A. Author, 2020 & later",
        "notes": ["Ours is <smaller> than theirs."],
        "tables": [{"title": "Table 3.1: error", "columns": ["method", "theirs", "ours"],
                    "rows": [["K = 2", 0.651, 0.66], ["K = 4", None, "n/a"]]}],
        "claims": [{"text": "mixing helps", "verdict": "held", "detail": "by 3 points"},
                   {"text": "K = 8 is best", "verdict": "did not hold", "detail": ""}],
    }  # fmt: skip
    (root / "source.json").write_text(json.dumps(source))
