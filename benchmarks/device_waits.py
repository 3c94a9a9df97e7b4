"""How often a training step waits for its device, and how many kernels it launches.

    OMP_NUM_THREADS=1 python benchmarks/device_waits.py [--old FOLDER]

On the pretended accelerator of the tests, which knows when a CUDA device would be waited for (a value that is
read back, a blocking copy), with the network tiny on digits, 8 samples a batch, augmented, on average of 20
updates. With ``--old`` the same for the package as it is in another folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTERNAL = "on=external,external=64"
PLANS = {
    "plain training": ("none", {}),
    **{f"{name}": ("none", options) for name, options in {
        "EMA": {"ema": 0.9},
        "clipped": {"clip": 1.0},
        "bf16": {"precision": "bf16"},
        "fp16": {"precision": "fp16"},
        "Adam, channels last": {"optimizer": "adam", "channels_last": True},
    }.items()},
    **{mix: (mix, {}) for mix in (
        "sum", "sum:coefficients=dirichlet", "sum:k=3,pairing=permute", "cascade", "gradual", "mixup",
        "mixup:per_sample=true", "cutmix", "cutmix:per_sample=true", "cutout", "sample-pairing", "manifold",
        "puzzle", "puzzle:adversarial_p=0.5",
    )},
    **{part: (f"select:{part}", {}) for part in (
        "accuracy", "margin:2", "topk:0.5", "weighted:0.5", "quantile:0.5", "qsplit:0.5", "random:0.5",
        "accuracy >> topk:0.5", "selective-backprop", "gradient-norm:0.5", "recency-bias", "active-bias",
        "infobatch >> epochwise",
    )},
    **{order: (f"order:{order}", {}) for order in (
        "by-score:k=8,score=label", "multi-attempt:k=8", "loss-delta:candidates=8",
        "loss-delta:candidates=8,on=relative",
        *(f"loss-delta:candidates=8,{EXTERNAL},method={method}" for method in (
            "exact", "first-order", "last-layers", "kept-gradients", "per-sample")),
    )},
    f"loss-delta:candidates=8,{EXTERNAL},method=stacked": (
        f"order:loss-delta:candidates=8,{EXTERNAL},method=stacked", {"model": "fcnet-16"}),
}  # fmt: skip


def measure() -> None:
    """Print what the package in this process does, as JSON."""
    sys.path.insert(0, str(HERE.parent / "tests" / "accelerator"))
    import pretended

    pretended.install()
    import waits

    found = {}
    for name, (plan, settings) in PLANS.items():
        step = waits.of_a_step(plan, **settings)
        found[name] = [step.waits, step.raw_batches, step.launches]
    print(json.dumps(found))


def measured(source: Path) -> dict[str, list[float]]:
    """The same for the package in a folder."""
    run = subprocess.run(
        [sys.executable, __file__, "--measure"],
        env={"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    found: dict[str, list[float]] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="folder of another version's package")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure()
        return
    columns = [measured(HERE.parent / "src")]
    heads = ["waits", "kernels"]
    if options.old:
        columns.insert(0, measured(options.old))
        heads = ["waits before", "waits", "kernels before", "kernels"]
    print(f"| plan | raw batches an update | {' | '.join(heads)} |")
    print("|---" * (len(heads) + 2) + "|")
    for name in PLANS:
        rows = [column[name] for column in columns]
        waits = " | ".join(f"{row[0]:.2f}" for row in rows)
        kernels = " | ".join(f"{row[2]:.0f}" for row in rows)
        print(f"| {name} | {rows[-1][1]:.2f} | {waits} | {kernels} |")


if __name__ == "__main__":
    main()
