"""What is evaluated: one object for the command line, for recipes and for Python."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lessonplan.errors import ConfigError, unknown
from lessonplan.lab.evaluation.attacks import check_names
from lessonplan.text_options import read_pairs, read_values


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TestTime(_Strict):
    """Test-time sums, see ``lessonplan.evaluate.TestTimeSum``."""

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
        try:
            return cls(**given)
        except ValidationError as error:
            raise _explain(error, "ttsa:") from None


class Evaluation(_Strict):
    """What is evaluated; classification always is, and label noise where there is some."""

    on: Literal["test", "val", "train"] = "test"
    """Which part of the data is judged."""
    ttsa: TestTime | None = None
    """Test-time sums, as a prediction and as a defence."""
    mixup_inference: bool = False
    """Mixup Inference beside the test-time sums, with as many copies."""
    attacks: tuple[str, ...] = ()
    """Attacks, for example fgsm, bim, mim, pgd, pgd:steps=40,restarts=5, autoattack."""
    eps: float = 8 / 255
    """Largest change of a pixel in [0, 1]; text such as 8/255 is read too."""
    ood: tuple[str, ...] = ()
    """Other data: noise (uniform and Gaussian), folders of images, or data such as digits or idx:PATH."""
    localise: bool = False
    """Class activation maps, and boxes from them."""
    between: bool = False
    """Errors and gradients between training samples."""
    limit: Annotated[int, Field(ge=2)] = 2000
    """Most samples for everything but classification."""
    curve_limit: Annotated[int, Field(ge=1)] = 200
    """Most samples for the curves over lambda and eps, and the boxes."""
    adaptive_limit: Annotated[int, Field(ge=1)] = 100
    """Most images for the table of defences: an adaptive attack costs 20 times a plain one."""
    pool: Annotated[int, Field(ge=2)] = 5000
    """Most training samples that test-time sums draw partners from."""
    seed: int = 0
    """Of subsets, partners, starts and noise."""

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
        if self.mixup_inference and self.ttsa is None:
            raise ConfigError(
                "mixup_inference stands beside test-time sums: give ttsa too, for example k=2,copies=16"
            )
        return self

    @classmethod
    def make(cls, **given: Any) -> Evaluation:
        """Check what is asked for; errors come as one sentence.

        >>> Evaluation.make(eps=8)
        Traceback (most recent call last):
        ...
        lessonplan.errors.ConfigError: eps=8: on images in [0, 1] this would allow any image: ...
        """
        for name in given:
            if name not in cls.model_fields:
                raise unknown("option of an evaluation", name, cls.model_fields)
        try:
            return cls(**given)
        except ValidationError as error:
            raise _explain(error) from None


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


def _explain(error: ValidationError, prefix: str = "") -> ConfigError:
    """What a check found, in one sentence."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    name = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{prefix}{name}={first['input']!r}: {reason[0].lower()}{reason[1:]}")
