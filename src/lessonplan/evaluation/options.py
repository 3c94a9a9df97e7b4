"""What is evaluated: one object for the command line, for recipes and for Python, and the table of its parts.

A new part is a row of ``PARTS`` with its option here, what it does in ``lab/evaluation/parts/NAME.py``, and what
is shown of it in ``report/sections/NAME.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lessonplan.errors import ConfigError
from lessonplan.evaluation.attacks import KINDS, LOSSES, check_names, split_attacks
from lessonplan.strict import Strict
from lessonplan.text_options import read_pairs, read_values


class TestTime(Strict):
    """Test-time sums, see ``lessonplan.evaluate.TestTimeSum``."""

    PREFIX: ClassVar[str] = "ttsa:"
    __test__ = False  # the name is no invitation to pytest

    k: Annotated[int, Field(ge=2)] = 4
    """Samples in a sum, the tested one included."""
    copies: Annotated[int, Field(ge=1)] = 16
    """Sums that a prediction is averaged over."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Lambda: how much the tested sample counts."""
    of: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged."""

    @classmethod
    def parse(cls, text: str) -> TestTime:
        """Read ``"k=4,copies=16"``.

        Raises:
            ConfigError: an option is unknown, or a value does not fit.

        >>> TestTime.parse("k=2,copies=8").copies
        8
        """
        hints = {name: field.annotation for name, field in cls.model_fields.items()}
        given = read_values("ttsa", read_pairs("ttsa", text), hints)
        return cls.make(**given)


class Evaluation(Strict):
    """What is evaluated; classification always is, and label noise where there is some.

    >>> Evaluation.make(eps=8)
    Traceback (most recent call last):
    ...
    lessonplan.errors.ConfigError: eps=8: on images in [0, 1] this would allow any image: ...
    """

    KIND: ClassVar[str] = "option of an evaluation"

    on: Literal["test", "val", "train"] = "test"
    """part of the data that is judged"""
    ttsa: TestTime | None = None
    """test-time sums, for example k=4,copies=16 (also weight=1, of=probabilities); as a defence too"""
    mixup_inference: bool = False
    """Mixup Inference beside the test-time sums, with as many copies"""
    attacks: tuple[str, ...] = ()
    """fgsm, bim, mim, pgd, autoattack, separated by commas, with options: pgd:steps=40,restarts=5,loss=margin"""
    eps: float = 8 / 255
    """largest change of a pixel in [0, 1], for example 8/255"""
    ood: tuple[str, ...] = ()
    """other data, separated by commas: noise (uniform and Gaussian), folders of images, or data such as digits or
    idx:PATH"""
    localise: bool = False
    """class activation maps, and boxes from them"""
    true_boxes: bool = False
    """the data's own boxes alone: data without any are refused, and no images are pasted on cluttered canvases"""
    between: bool = False
    """errors and gradients between training samples"""
    limit: Annotated[int, Field(ge=2)] = 2000
    """most samples for all but classification"""
    curve_limit: Annotated[int, Field(ge=1)] = 200
    """most samples for the curves over lambda and eps, and for the boxes"""
    adaptive_limit: Annotated[int, Field(ge=1)] = 100
    """most images for attacks on test-time sums, which cost 20 times as much"""
    pool: Annotated[int, Field(ge=2)] = 5000
    """most training samples that test-time sums draw partners from"""
    seed: int = 0
    """of subsets, partners, starts and noise, and of the split of data without a run"""

    @field_validator("ttsa", mode="before")
    @classmethod
    def _sums(cls, value: Any) -> Any:
        return TestTime.parse(value) if isinstance(value, str) else value

    @field_validator("attacks", mode="before")
    @classmethod
    def _separated_attacks(cls, value: Any) -> Any:
        return tuple(split_attacks(value)) if isinstance(value, str) else value

    @field_validator("ood", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("eps", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        return read_eps(value) if isinstance(value, str) else value

    @field_validator("eps")
    @classmethod
    def _in_pixels(cls, value: float) -> float:
        if value > 1.0:
            raise ValueError(
                f"on images in [0, 1] this would allow any image: did you mean {value:g}/255 = {value / 255:.4f}?"
            )
        if not value > 0.0:
            raise ValueError("give the largest change of a pixel, above 0, for example 8/255")
        return value

    @field_validator("attacks")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_names(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> Evaluation:
        if self.true_boxes and not self.localise:
            raise ConfigError("true_boxes says what localise is judged by: give localise too, or leave it out")
        if self.mixup_inference and self.ttsa is None:
            raise ConfigError(
                "mixup_inference stands beside test-time sums: give ttsa too, for example k=2,copies=16"
            )
        return self


@dataclass(frozen=True)
class EvaluationPart:
    """A part of an evaluation, as the lab, the page and recipes know it.

    Attributes:
        name: of its files ``lab/evaluation/parts/NAME.py`` and ``report/sections/NAME.py``, and in
            ``evaluation.json``.
        asked: whether it is done, by the options and whether labels of the training data were corrupted.
        uses: the options that its result depends on.
        shares: its measures in [0, 1], which people read in per cent.
        numbers: its other measures.
        images: whether it needs images in [0, 1].
    """

    name: str
    asked: Callable[[Evaluation, bool], bool]
    uses: Callable[[Evaluation], frozenset[str]]
    shares: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    images: bool = False


def _attack_measures() -> tuple[str, ...]:
    """``X_accuracy`` is under attack X; ``undefended``, ``transfer``, ``adaptive`` and ``robust`` are the columns
    of the table of defences, on fewer images, the last one the smaller of the two before it."""
    on_margin = [f"{name}_margin" for name in LOSSES]
    plain = [
        f"{name}_{kind}" for name in (*KINDS, *on_margin) for kind in ("accuracy", "top5_accuracy", "no_gradient")
    ]
    columns = ("undefended", "transfer", "adaptive", "robust")
    defended = [
        f"{prefix}{name}_{column}_accuracy"
        for prefix in ("", "mi_other_")
        for name in ("clean", *LOSSES)
        for column in (columns if name != "clean" else columns[:2])
    ]
    return ("clean_accuracy", *plain, *defended)


_SHARED = frozenset({"on", "limit", "seed"})
_TEST_TIME = frozenset({"ttsa", "mixup_inference", "pool"})

PARTS = (
    EvaluationPart(
        "classification",
        lambda options, corrupted: True,
        lambda options: frozenset({"on"}),
        shares=("top5_accuracy",),
        numbers=("calibration_error",),
    ),
    EvaluationPart(
        "label_noise",
        lambda options, corrupted: corrupted,
        lambda options: frozenset(),
        shares=("train_error_real", "train_error_corrupted", "val_error_best", "val_error_last"),
    ),
    EvaluationPart(
        "test_time",
        lambda options, corrupted: options.ttsa is not None,
        lambda options: _SHARED | _TEST_TIME | {"curve_limit"},
        shares=("clean_accuracy", "ttsa_accuracy", "mi_predicted_accuracy", "mi_other_accuracy"),
    ),
    EvaluationPart(
        "attacks",
        lambda options, corrupted: bool(options.attacks),
        lambda options: (
            _SHARED
            | {"attacks", "eps", "curve_limit"}
            | (_TEST_TIME | {"adaptive_limit"} if options.ttsa is not None else frozenset())
        ),
        shares=_attack_measures(),
        images=True,
    ),
    EvaluationPart(
        "ood",
        lambda options, corrupted: bool(options.ood),
        lambda options: _SHARED | {"ood"},
        shares=("ood_tnr_at_tpr95", "ood_auroc", "ood_detection_accuracy"),
    ),
    EvaluationPart(
        "localisation",
        lambda options, corrupted: options.localise,
        lambda options: _SHARED | {"curve_limit"},
        shares=("localisation_accuracy", "localisation_known_accuracy", "max_box_accuracy"),
        images=True,
    ),
    EvaluationPart(
        "between",
        lambda options, corrupted: options.between,
        lambda options: _SHARED,
        shares=("between_miss",),
        numbers=("between_gradient_norm",),
    ),
)


def read_eps(text: str) -> float:
    """A number or a fraction.

    Raises:
        ConfigError: it is neither.

    >>> read_eps("8/255") == 8 / 255, read_eps("0.03")
    (True, 0.03)
    """
    over, slash, under = text.partition("/")
    try:
        return float(over) / float(under) if slash else float(over)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"eps={text!r} is no number: write 8/255 or 0.03") from None
