"""The packages that integrations are for: extras, imported when an integration is."""

from __future__ import annotations

import contextlib
from typing import Any

from lessonplan.errors import ConfigError, first_line
from lessonplan.extras import refuse_other_versions
from lessonplan.models.beside_torchvision import import_beside_torchvision


def need(module: str, extra: str) -> Any:
    """Import a module of an extra.

    Raises:
        ConfigError: it is not installed, too old, or cannot be imported.
    """
    refuse_other_versions(extra)
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        import_beside_torchvision("torchvision")  # which many of them import, some of them later
    try:
        return import_beside_torchvision(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == module.partition(".")[0]:
            raise ConfigError(f"{extra} is not installed: pip install 'lessonplan[{extra}]'") from error
        raise ConfigError(f"{extra} cannot be imported ({first_line(error)}): install what is missing") from error
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"{extra} is installed but cannot be imported ({first_line(error)}): install it in the build that"
            " belongs to your torch"
        ) from error
