"""What the examples and helpers say where a package is missing, or where they are given what is no mix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.integrations.examples import example

import lessonplan as lp
from lessonplan.child import python
from lessonplan.errors import ConfigError

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("file", "module", "extra"),
    [
        ("lightning_cascade", "lightning", "lightning"),
        ("hugging_face_trainer", "transformers", "transformers"),
        ("accelerate_loop", "accelerate", "accelerate"),
    ],
)
def test_an_example_without_its_package_names_the_extra(
    file: str, module: str, extra: str, tmp_path: Path
) -> None:
    path = str(EXAMPLES / f"{file}.py")
    code = f"import sys; sys.modules[{module!r}] = None; import runpy; runpy.run_path({path!r})"
    done = subprocess.run(python(code), capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert f"pip install 'lessonplan[{extra}]'" in done.stderr.splitlines()[-1]


def test_examples_of_data_without_their_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("albumentations", "datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "lessonplan.integrations.albumentations", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[albumentations\]'$"):
        example("albumentations_transforms")
    with pytest.raises(SystemExit, match=r"datasets.*: pip install datasets$"):
        example("huggingface_datasets")


@pytest.mark.parametrize("given", ["mixup", lp.Plan.parse("mixup"), None], ids=["text", "plan", "nothing"])
def test_only_the_object_that_mixes_is_taken(given) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    from lessonplan.integrations.accelerate import register
    from lessonplan.integrations.transformers import MixCallback, MixCollator

    for take in (MixCallback, MixCollator, lambda mix: register(None, mix)):
        with pytest.raises(ConfigError, match="is no mix: give the object that mixes the batches"):
            take(given)
