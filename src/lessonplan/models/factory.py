"""Networks by a function or class that makes them, which is told what it names."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from lessonplan.errors import ConfigError, unknown
from lessonplan.text_options import convert, guess

Factory = Callable[..., nn.Module]
"""Makes a network; told ``num_classes``, ``in_channels``, ``image_size`` and ``shape`` as far as it names them."""

_TOLD = ("num_classes", "in_channels", "image_size", "shape")


def make_network(
    factory: Factory,
    shape: tuple[int, ...],
    num_classes: int,
    *,
    name: str | None = None,
    options: Mapping[str, str] | None = None,
) -> nn.Module:
    """Call a factory.

    Args:
        factory: a function, a class or a ``functools.partial``. It is told ``num_classes``, ``in_channels``,
            ``image_size`` (height, width) and ``shape``, as far as it names them and a partial has not settled
            them; one that takes any keyword is told ``num_classes``.
        shape: of one input, ``(C, H, W)`` or ``(F,)``.
        num_classes: of outputs.
        name: for messages; None: the factory's own.
        options: texts for its other arguments, read as its annotations say.

    Raises:
        ConfigError: an option that it does not take, an argument that nobody gives, an error of its own, or
            something that is no network.
    """
    name = name or name_of(factory)
    told = {"num_classes": num_classes, "in_channels": shape[0], "image_size": shape[1:] or (1, 1), "shape": shape}
    takes, any_keyword = _parameters(factory)
    settled = factory.keywords if isinstance(factory, partial) else {}
    given: dict[str, Any] = {key: told[key] for key in takes if key in told and key not in settled}
    hints = _hints(factory) if options else {}
    for key, text in (options or {}).items():
        if key not in takes or key in _TOLD:
            raise unknown(f"option of {name}", key, [known for known in takes if known not in _TOLD])
        given[key] = guess(text) if key not in hints else convert(f"{name}:{key}", text, hints[key])
    missing = [key for key, required in takes.items() if required and key not in given]
    if missing:
        raise ConfigError(
            f"{name} wants {missing[0]!r}, which nobody gives: give it a default (functools.partial in Python, an"
            f" option in an address); {', '.join(_TOLD)} are told to those that name them"
        )
    unnamed = any_keyword and "num_classes" not in {*takes, *settled}  # torchvision's pass it on
    try:
        made = _call(factory, given, num_classes if unnamed else None)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{name} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{name} gives {type(made).__name__}: give one that gives a torch module")
    return made


def name_of(factory: Any) -> str:
    """What a factory is called.

    >>> name_of(partial(nn.Linear, 3)), name_of(nn.Linear)
    ('Linear', 'Linear')
    """
    while isinstance(factory, partial):
        factory = factory.func
    return str(getattr(factory, "__name__", None) or type(factory).__name__)


def _call(factory: Factory, given: Mapping[str, Any], num_classes: int | None) -> Any:
    if num_classes is not None:
        try:
            return factory(**given, num_classes=num_classes)
        except TypeError as error:  # what it passes its keywords on to does not know this one
            if "unexpected keyword argument 'num_classes'" not in str(error):
                raise
    return factory(**given)


def _parameters(factory: Any) -> tuple[dict[str, bool], bool]:
    """The arguments and whether they are required; and whether any other keyword will do."""
    try:
        found = inspect.signature(factory).parameters.values()
    except ValueError:  # of C
        return {}, False
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    takes = {p.name: p.default is inspect.Parameter.empty for p in found if p.kind not in variable}
    return takes, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found)


def _hints(factory: Any) -> dict[str, Any]:
    """Annotations by the name of the argument; those that cannot be read say nothing."""
    try:
        return typing.get_type_hints(
            getattr(factory, "__init__", factory) if isinstance(factory, type) else factory
        )
    except Exception:  # whatever code in annotations raises
        return {}
