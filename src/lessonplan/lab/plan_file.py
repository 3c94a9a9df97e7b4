"""Plan files: one plan with its settings, as YAML that a person can read and write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lessonplan.errors import ConfigError, DataError, unknown
from lessonplan.files import write_atomically
from lessonplan.lab.methods import Method
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.stored import read_yaml
from lessonplan.train.budget import Budget

_PARTS = ("select", "order", "mix")
_KEYS = ("name", "model", *_PARTS, "budget", "settings")


@dataclass
class PlanFile:
    """What a plan file holds.

    Args:
        method: name, plan, and the settings that differ from ``Settings``' defaults.
        model: spelling of the network; None leaves it to whoever uses the file.
        budget: text of a budget; None leaves it to whoever uses the file.
    """

    method: Method
    model: str | None = None
    budget: str | None = None

    @property
    def name(self) -> str:
        """Of the plan."""
        return self.method.name

    def content(self) -> dict[str, Any]:
        """The plan as plain data, without what is as it would be anyway.

        Raises:
            ConfigError: a part holds a function or an object that no text makes.
        """
        plan = self.method.plan
        texts = {part: str(getattr(plan, part)) for part in _PARTS if getattr(plan, part) is not None}
        try:
            same = Plan.from_texts(**texts).config() == plan.config()
        except ConfigError:
            same = False
        if not same:
            raise ConfigError(
                f"plan {self.name!r} ({self.method.describe()}) cannot be written to a file, because no"
                " text makes it: give its parts as texts, functions of your own as module:name"
            )
        content = {"name": self.name, "model": self.model, **texts, "budget": self.budget}
        return {
            **{key: value for key, value in content.items() if value is not None},
            **({"settings": dict(self.method.settings)} if self.method.settings else {}),
        }

    def text(self) -> str:
        """The file's text."""
        return yaml.safe_dump(self.content(), sort_keys=False, allow_unicode=True, width=112)

    def write(self, path: Path) -> None:
        """Write it; ``read_plan_file`` gives the same plan back.

        Raises:
            ConfigError: see ``content``. DataError: the disk refuses the file.
        """
        write_atomically(path, self.text().encode())

    def with_defaults(self, *, model: str, budget: str | None, settings: Mapping[str, Any]) -> PlanFile:
        """The same plan where the file leaves a choice; its own settings go first."""
        merged = {**settings, **self.method.settings}
        return replace(
            self,
            method=Method(self.method.name, self.method.plan, merged),
            model=self.model or model,
            budget=self.budget or budget,
        )


def plan_from(content: Mapping[str, Any], where: str) -> PlanFile:
    """A plan from plain data.

    Args:
        content: ``name``, ``model``, ``select``, ``order``, ``mix``, ``budget``, ``settings``; none is needed.
        where: what the data are called in errors, and the plan where it has no name.

    Raises:
        ConfigError: a key, a part or a setting is unknown, or a value is not allowed; the file is named.
    """
    for key in content:
        if key not in _KEYS:
            raise unknown(f"key of the plan in {where}", str(key), _KEYS)
    settings = content.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise ConfigError(f"settings of the plan in {where} are {settings!r}: write one a line, lr: 0.01")
    try:
        plan = Plan.from_texts(**{part: str(content.get(part) or "none") for part in _PARTS})
        Settings.make(**settings)
        budget = content.get("budget")
        if budget is not None:
            Budget.parse(str(budget))
    except ConfigError as error:
        raise ConfigError(f"the plan in {where} cannot be used: {error}") from None
    name = str(content.get("name") or Path(where).stem)
    model = content.get("model")
    return PlanFile(
        Method(name, plan, dict(settings)),
        None if model is None else str(model),
        None if budget is None else str(budget),
    )


def read_plan_file(path: str | Path) -> PlanFile:
    """Read a plan file; what is left out of it has its default, and its name is that of the file.

    Raises:
        ConfigError: the file is missing, is no YAML, or ``plan_from`` refuses what it holds.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give a plan file, YAML with mix, select, order, settings")
    try:
        content = read_yaml(path, "mend it, or give another plan file")
    except DataError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds no plan: write lines such as 'mix: mixup' and 'settings: {{lr: 0.01}}'")
    return plan_from(content, str(path))
