"""The commands of the command line: their options as dataclasses, their work as calls of the library."""

from __future__ import annotations

import csv
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import tyro

from lessonplan.errors import ConfigError, DataError
from lessonplan.settings import Settings

Flat = tyro.conf.arg(name="")

_DEFAULTS = Settings()
_SPELLED_OTHERWISE = {"network": "run"}  # fields whose option could not be a field beside the method run
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class Command(Protocol):
    """A command with its options read."""

    def run(self) -> int:
        """Do it; the exit code."""


@dataclass(frozen=True)
class DataOptions:
    """Where samples come from and how they are split."""

    data: str = "digits"
    """digits, npz:PATH, folder:PATH, parquet:PATH, idx:PATH, cifar:PATH, or a path whose kind is guessed"""
    test: str | None = None
    """test data of their own, written like --data"""
    per_class: int | None = None
    """labelled samples of each class, validation included; all if not given"""
    val_per_class: int | None = None
    """validation samples of each class, in addition to --per-class"""
    val_fraction: float | None = None
    """share of the labelled samples used for validation (0.2 if not given)"""
    test_fraction: float = 0.5
    """share set aside for testing where the data have no test part"""
    augment: str = "auto"
    """auto, none, or for example flip,crop:4"""
    image_size: int | None = None
    """side in pixels that images are resized and cropped to"""
    on_bad: Literal["error", "skip"] = "error"
    """what to do with unreadable images"""
    workers: int = 2
    """processes that read ahead, for data that do not fit into memory"""

    def loading(self) -> dict[str, Any]:
        """The options of ``lessonplan.data.load`` that were given."""
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "data"}
        if self.val_fraction is None and self.val_per_class is None:
            options["val_fraction"] = 0.2
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        return {name: value for name, value in options.items() if value != defaults[name]}


@dataclass(frozen=True)
class Compare:
    """Options of ``lessonplan compare``."""

    out: Path
    """folder for results.csv, results.json, index.html and runs/"""
    methods: str = "erm,mixup,sum,cascade,gradual"
    """mixes separated by commas (sum:k=4,pairing=permute; label=spec names one), or a YAML file of plans"""
    seeds: str = "5"
    """how many seeds, or which: 3,4,5"""
    budget: str = "30k samples"
    """training of each run: 20ep, 4000 steps, 400k samples, 10min, 1.2M cost"""
    model: str = "tiny"
    """name of the network, for example wrn-16-1, resnet-18, timm:NAME"""
    reference: str | None = None
    """method that the others are compared with; erm if it is there"""
    title: str | None = None
    """headline of the page"""
    jobs: int | None = None
    """runs at a time; one a core on the CPU if not given"""
    run_on: Literal["local", "ray", "slurm"] = "local"
    """processes of this machine, a Ray cluster, or SLURM (their packages are extras)"""
    level: float = 0.95
    """confidence level of the intervals"""
    source: Annotated[DataOptions, Flat] = DataOptions()
    settings: Annotated[Settings, Flat] = _DEFAULTS

    def run(self) -> int:
        """Compare, print the table, name the page."""
        from lessonplan.lab.comparison import compare
        from lessonplan.report.terminal import print_table

        results = compare(
            self.methods,
            self.source.data,
            out=self.out,
            model=self.model,
            seeds=_seeds(self.seeds),
            budget=self.budget,
            reference=self.reference,
            title=self.title,
            jobs=self.jobs,
            threads=self.settings.threads,
            executor=None if self.run_on == "local" else self.run_on,
            settings=given_settings(self.settings),
            level=self.level,
            **self.source.loading(),
        )
        print_table(results)
        print(f"page: {self.out / 'index.html'}")
        return 1 if results["failures"] else 0


@dataclass(frozen=True)
class Train:
    """Options of ``lessonplan train``."""

    out: Path
    """folder of the run; the same command again resumes it"""
    model: str = "tiny"
    """name of the network, for example wrn-16-1, resnet-18, timm:NAME"""
    mix: str = "none"
    """how samples are mixed, for example mixup, cascade:k=4, sum:k=2,until=80%, mixup|cutmix"""
    budget: str = "20ep"
    """how long to train: 20ep, 4000 steps, 400k samples, 10min, 1.2M cost"""
    seed: int = 0
    """of split, weights, order and mixes"""
    log: str = ""
    """where metrics go beside metrics.jsonl: tensorboard, wandb, mlflow (extras), separated by commas"""
    source: Annotated[DataOptions, Flat] = DataOptions()
    settings: Annotated[Settings, Flat] = _DEFAULTS

    def run(self) -> int:
        """Train, write the run's page, say how well it went."""
        from lessonplan.data import load
        from lessonplan.report import write_run
        from lessonplan.train import fit
        from lessonplan.train.fitting import resolve_device
        from lessonplan.train.loggers import loggers

        device = resolve_device(self.settings.device)
        data = load(self.source.data, seed=self.seed, device=device, **self.source.loading())
        run = fit(
            self.model,
            data,
            self.mix,
            self.budget,
            seed=self.seed,
            out=self.out,
            callbacks=loggers(self.log, self.out),
            **self.settings.model_dump(),
        )
        write_run(self.out)
        parts = [
            f"{name} accuracy {run.result[name]['accuracy']:.4f}" for name in ("val", "test") if name in run.result
        ]
        print(f"{', '.join(parts) or 'trained'} after {run.result['samples']} sample passes")
        print(f"page: {self.out / 'index.html'}")
        return 0


@dataclass(frozen=True)
class Preview:
    """Options of ``lessonplan preview``."""

    out: Path
    """PNG file to write"""
    mix: str = "sum:k=4"
    """how samples are mixed"""
    count: int = 8
    """pictures to show"""
    seed: int = 0
    """which samples"""
    explain: bool = False
    """show how puzzle mixes: images, saliency, mask, moved blocks, result"""
    network: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """folder of a finished run, whose network mixes such as puzzle ask; an untrained one if not given"""
    source: Annotated[DataOptions, Flat] = DataOptions()

    def run(self) -> int:
        """Draw."""
        from lessonplan.data import load
        from lessonplan.lab.examples import mixed_images
        from lessonplan.lab.explanation import puzzle_steps, trained_network
        from lessonplan.plan import Plan
        from lessonplan.report import save_png

        if self.count < 1:
            raise ConfigError(f"--count {self.count}: give at least 1 picture")
        plan = Plan.parse(self.mix)
        data = load(self.source.data, seed=self.seed, **self.source.loading())
        model = trained_network(self.network, data) if self.network is not None else None
        draw = puzzle_steps if self.explain else mixed_images
        figure = draw(plan.mix, data, count=self.count, seed=self.seed, model=model)
        if figure is None:
            raise DataError(f"samples of shape {data.shape} are no images: nothing can be drawn")
        save_png(figure, self.out)
        print(self.out)
        return 0


@dataclass(frozen=True)
class Predict:
    """Options of ``lessonplan predict``."""

    trained: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of a finished run"""
    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES_OR_FOLDER")]
    """an image, or a folder that is searched for images"""
    out: Path = Path("predictions.csv")
    """CSV file to write: file, class, probability, and the probability of each class"""

    def run(self) -> int:
        """Classify every readable image; name the others."""
        from lessonplan.train import load

        paths = _image_files(self.images)
        classifier = load(self.trained)
        readable, unreadable = [], []
        for path in paths:
            try:
                classifier.preprocessing([path])
                readable.append(path)
            except DataError:
                unreadable.append(path)
        for path in unreadable:
            print(f"lessonplan: {path} cannot be read as an image and is left out", file=sys.stderr)
        if not readable:
            raise DataError(f"none of the {len(paths)} files in {self.images} can be read as an image")
        probabilities = classifier.predict(readable)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "class", "probability", *classifier.class_names])
            for path, row in zip(readable, probabilities.tolist(), strict=True):
                best = max(range(len(row)), key=row.__getitem__)
                writer.writerow(
                    [path, classifier.class_names[best], f"{row[best]:.6f}", *(f"{p:.6f}" for p in row)]
                )
        print(f"{len(readable)} images classified, {len(unreadable)} unreadable: {self.out}")
        return 0


@dataclass(frozen=True)
class Recipes:
    """Options of ``lessonplan recipes``."""

    def run(self) -> int:
        """List the recipes."""
        from lessonplan.lab.recipe import all_recipes

        for recipe in all_recipes():
            print(f"{recipe.name:<24} {recipe.title}  [{', '.join(recipe.scales)}]")
        return 0


@dataclass(frozen=True)
class Reproduce:
    """Options of ``lessonplan reproduce``."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """recipe, see lessonplan recipes"""
    out: Path
    """folder of the results"""
    scale: Literal["smoke", "cpu", "gpu", "paper"] = "smoke"
    """seconds; at most half an hour on two cores; at most 25 minutes on one data-centre GPU; the source's own"""
    data: str | None = None
    """where the data set that the recipe names lies, for example parquet:PATH or cifar:PATH"""
    seeds: str | None = None
    """how many seeds, or which, instead of the recipe's"""
    budget: str | None = None
    """training of each run instead of the recipe's"""
    jobs: int | None = None
    """runs at a time"""

    def run(self) -> int:
        """Run the recipe, print its tables and what became of the source's claims."""
        from lessonplan.lab.reproduction import reproduce

        outcome = reproduce(
            self.name,
            self.scale,
            out=self.out,
            data=self.data,
            seeds=_seeds(self.seeds) if self.seeds is not None else None,
            budget=self.budget,
            jobs=self.jobs,
        )
        outcome.show()
        print(f"page: {self.out / 'index.html'}")
        return 1 if outcome.failures else 0


@dataclass(frozen=True)
class Report:
    """Options of ``lessonplan report``."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """folder of a run, a comparison or a reproduction"""

    def run(self) -> int:
        """Write the pages again."""
        from lessonplan.report import write_pages

        print(f"page: {write_pages(self.folder)}")
        return 0


COMMAND_TYPES: dict[str, Any] = {
    "compare": Compare,
    "train": Train,
    "preview": Preview,
    "predict": Predict,
    "recipes": Recipes,
    "reproduce": Reproduce,
    "report": Report,
}


def option_names(kind: Any) -> list[str]:
    """Every option of a command, as it is written."""
    names: list[str] = []
    for item in dataclasses.fields(kind):
        if item.name == "source":
            names += [f"--{f.name}" for f in dataclasses.fields(DataOptions)]
        elif item.name == "settings":
            for name, info in Settings.model_fields.items():
                names += [f"--{name}", *([f"--no-{name}"] if info.annotation is bool else [])]
        else:
            names.append(f"--{_SPELLED_OTHERWISE.get(item.name, item.name)}")
    return [name.replace("_", "-") for name in names]


def given_settings(settings: Settings) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    return settings.model_dump(exclude_defaults=True, exclude={"threads"})


def _seeds(text: str) -> int | list[int]:
    """``"5"`` is five seeds, ``"3,4"`` are these two."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {text!r}: give how many (5) or which (3,4,5)") from None
    return numbers if "," in text else numbers[0]


def _image_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in _IMAGE_ENDINGS)
        if not files:
            raise DataError(f"{path} holds no images ({', '.join(_IMAGE_ENDINGS)})")
        return files
    if not path.exists():
        raise DataError(f"{path} does not exist: give an image or a folder of images")
    return [path]
