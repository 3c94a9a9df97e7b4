"""Pictures of what methods' networks see."""

import json
from pathlib import Path

from lessonplan.data import load
from lessonplan.lab.examples import training_images, write_examples
from lessonplan.lab.methods import read_methods


def test_methods_without_a_mix_share_a_picture(tmp_path: Path) -> None:
    data = load("digits", per_class=4)
    methods = read_methods({"filter": "select:accuracy", "erm": "none", "sum": "sum:k=2"})
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "old.png").touch()
    write_examples(tmp_path, methods, data, seed=0)
    written = sorted(path.name for path in (tmp_path / "examples").iterdir())
    assert written == ["filter.json", "filter.png", "sum.json", "sum.png"]
    captions = [json.loads((tmp_path / "examples" / name).read_text())["caption"] for name in written[::2]]
    assert captions[0].startswith("filter, erm: not mixed")
    assert captions[1].startswith("sum: ")


def test_pictures_show_the_augmentation() -> None:
    """``preview`` took no notice of --augment."""
    plain, turned = (load("digits", per_class=4, augment=text) for text in ("none", "rotate:90,pad:zeros"))
    raw, labels = training_images(plain, 6, seed=0)
    shown, same = training_images(turned, 6, seed=0)
    assert labels.equal(same)
    assert not raw.equal(shown)
