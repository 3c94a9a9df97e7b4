"""Options checked by their types: what is wrong with one is said in one sentence."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from lessonplan.errors import ConfigError, unknown

_LONGEST = 300  # characters of a value in a message
_GIVE = "give "


class Strict(BaseModel):
    """Options that are made once, by their names."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
    KIND: ClassVar[str] = "option"
    """What one of them is called."""
    PREFIX: ClassVar[str] = ""
    """What stands before its name in an error."""

    @classmethod
    def make(cls, **given: Any) -> Self:
        """Check what is given.

        Raises:
            ConfigError: an option is unknown, or a value is not allowed.
        """
        for name in given:
            if name not in cls.model_fields:
                raise unknown(cls.KIND, name, cls.model_fields)
        try:
            return cls(**given)
        except ValidationError as error:
            raise explain(error, cls.PREFIX) from None


def explain(error: ValidationError, prefix: str = "") -> ConfigError:
    """What a check found, in one sentence: the option, its value, what is allowed."""
    found = error.errors()
    cause = found[0].get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    name, value = str(found[0]["loc"][0]) if found[0]["loc"] else "", found[0]["input"]
    reasons = {_reason(e["msg"]) for e in found if not name or str(e["loc"][0]) == name}
    text = _joined(sorted(reasons))
    return ConfigError(
        f"{prefix}{name}={_shown(value)}: {text}" if name and not text.startswith(f"{name} ") else text
    )


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not write out numbers of thousands of digits
        return "a very large number"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _reason(message: str) -> str:
    message = message.removeprefix("Value error, ")
    allowed = message.removeprefix("Input should be ")
    if allowed != message:
        return f"{_GIVE}a number {allowed}" if allowed.startswith(("greater", "less")) else f"{_GIVE}{allowed}"
    return message[0].lower() + message[1:]


def _joined(reasons: list[str]) -> str:
    """``give X or Y`` of several things that may be given."""
    if all(reason.startswith(_GIVE) for reason in reasons):
        return _GIVE + " or ".join(reason.removeprefix(_GIVE) for reason in reasons)
    return " or ".join(reasons)
