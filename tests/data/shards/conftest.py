"""Pictures in folders, and the same ones in shards."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("ape", "bee", "cow")
PICTURES = 60


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def packed(path: Path, content: Mapping[str, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar file of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a cache of its own."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LESSONPLAN_CACHE", str(home))
    return home


@pytest.fixture(scope="session")
def pictures() -> list[tuple[str, str, bytes]]:
    """Class, file's name and content of some pictures, class by class: the order in which a folder is read."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(PICTURES):
        pixels = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
        found.append((CLASSES[number * 3 // PICTURES], f"{number:03d}", encoded(pixels)))
    return found


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory, pictures) -> Path:
    """The same pictures: ``folder/CLASS/*.png`` and ``tar/s-{0..3}.tar``, with labels said in three ways."""
    root = tmp_path_factory.mktemp("sets")
    for name, number, content in pictures:
        (root / "folder" / name).mkdir(parents=True, exist_ok=True)
        (root / "folder" / name / f"{number}.png").write_bytes(content)
    says: list[Callable[[str], tuple[str, bytes]]] = [
        lambda name: ("cls", name.encode()),
        lambda name: ("json", b'{"width": 8, "label": "%s"}' % name.encode()),
        lambda name: ("txt", name.encode() + b"\n"),
        lambda name: ("json", b'{"cls": "%s"}' % name.encode()),
    ]
    for shard in range(4):
        content: dict[str, bytes] = {}
        for name, number, picture in pictures[shard * 15 : shard * 15 + 15]:
            ending, label = says[shard](name)
            content |= {f"{number}.png": picture, f"{number}.{ending}": label}
        packed(root / "tar" / f"s-{shard}.tar", content)
    return root
