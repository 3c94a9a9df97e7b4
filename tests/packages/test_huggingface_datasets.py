"""Hugging Face's datasets, the real ones: as data for fit, streamed, transformed, and in the example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.integrations.examples import example
from torch.utils.data import DataLoader

import lessonplan as lp
from lessonplan.errors import ConfigError, DataError

pytestmark = pytest.mark.packages("datasets")
PIXELS = np.random.default_rng(4).integers(0, 256, (24, 9, 8, 3), dtype=np.uint8)
NAMES = ("ant", "bee", "cow")


def insects(labels: list[int] | None = None, column: str = "image") -> Any:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Picture

    given = {column: [Image.fromarray(p) for p in PIXELS], "label": labels or [i % 3 for i in range(24)]}
    return Dataset.from_dict(given, features=Features({column: Picture(), "label": ClassLabel(names=list(NAMES))}))


def tensors(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns as models of transformers call them, which the set has not."""
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in columns["image"]]
    return {"pixel_values": pixels, "labels": columns["label"]}


FORMS = {
    "pictures": lambda d: d,
    "img": lambda d: d.rename_column("image", "img"),
    "torch": lambda d: d.with_format("torch"),
    "numpy": lambda d: d.with_format("numpy"),
    "transform": lambda d: d.with_transform(tensors),
}


@pytest.mark.parametrize("limit", [0, 2**30])
@pytest.mark.parametrize("form", FORMS)
def test_pixels_labels_and_names_are_the_sets(form: str, limit: int) -> None:
    data = lp.data.load(FORMS[form](insects()), test_fraction=0, memory_limit=limit)
    assert np.array_equal(data.train.raw(torch.arange(24)).permute(0, 2, 3, 1).numpy(), PIXELS)
    assert data.train.labels.tolist() == [0, 1, 2] * 8
    assert data.class_names == NAMES
    assert data.description["in_memory"] == (limit > 0)


def test_a_selection_of_rows_and_workers() -> None:
    chosen = insects().shuffle(seed=0).select(range(9))
    data = lp.data.load(chosen, test_fraction=0, memory_limit=0, workers=2, augment="none")
    whole = lp.data.load(chosen, test_fraction=0, augment="none")
    assert data.train.labels.tolist() == list(chosen["label"])
    rows = torch.tensor([3, 8, 0])
    for (x, y), (x_kept, y_kept) in zip(data.train.batches([rows]), whole.train.batches([rows]), strict=True):
        assert torch.equal(x, x_kept)
        assert y.tolist() == y_kept.tolist() == [chosen[int(i)]["label"] for i in rows]
    data.close()


def test_parts_train_and_predict_by_name(tmp_path: Path) -> None:
    from datasets import DatasetDict

    parts = insects().train_test_split(test_size=9, stratify_by_column="label", seed=0)
    data = lp.data.load(parts)
    assert (len(data.train), len(data.test)) == (15, 9)
    lp.fit("tiny", data, "mixup", "2ep", batch_size=5, out=tmp_path / "run")
    trained = lp.load(tmp_path / "run")
    images = parts["test"]["image"][:4]
    assert trained.predict(images).shape == (4, 3)
    assert set(trained.classify(images)) <= set(NAMES)
    unlabelled = lp.data.load(DatasetDict(train=insects(), test=insects([-1] * 24)))  # as published test parts are
    assert unlabelled.description["unlabelled_parts"] == ["test"]


def test_what_is_no_set_of_positions_is_said() -> None:
    from datasets import IterableDatasetDict

    with pytest.raises(DataError, match=r"IterableDataset cannot be asked .* without streaming=True"):
        lp.data.load(IterableDatasetDict(train=insects().to_iterable_dataset()))
    model = lp.models.build_model("tiny", shape=(3, 9, 8), num_classes=3, seed=0)
    for given, said in {
        "pictures": r"samples that are no tensors .*give lessonplan\.data\.load\(dataset\), or a DataLoader whose",
        "torch": r"batches of type dict",
    }.items():
        loop = lp.batches(model, FORMS[given](insects()), batch_size=6, epochs=1)
        with pytest.raises(ConfigError, match=said):
            next(iter(loop))


def test_a_loader_of_transformed_items_in_a_loop_of_ones_own() -> None:
    def batch(items: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([i["pixel_values"] for i in items]) / 255, torch.tensor([i["labels"] for i in items])

    loader = DataLoader(insects().with_transform(tensors), batch_size=6, collate_fn=batch)
    model = lp.models.build_model("tiny", shape=(3, 9, 8), num_classes=3, seed=0)
    for x, y, _ in lp.batches(model, loader, batch_size=6, epochs=1):
        rows = [int((picture == PIXELS).all((1, 2, 3)).argmax()) for picture in _as_bytes(x)]
        assert [i % 3 for i in rows] == y.tolist()


def _as_bytes(x: torch.Tensor) -> np.ndarray:
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_the_example() -> None:
    fitted, alone, said = example("huggingface_datasets").main(epochs=4)
    assert fitted > 0.6  # chance is 1/3
    assert alone > 0.6
    assert set(said) <= {"across", "checks", "down"}
