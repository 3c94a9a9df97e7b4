"""Rows of ranks: whose they are, and how they come together again."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lessonplan.network.ranks import Ranks
from ranks.cases import idle_and_few, reduced, streamed
from ranks.together import on_ranks
from ranks.work import collectives


@given(st.integers(0, 50), st.integers(1, 9))
def test_parts_are_all_rows_once(rows: int, count: int) -> None:
    parts = [Ranks(rank, count).part(rows) for rank in range(count)]
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(rows))
    lengths = [part.stop - part.start for part in parts]
    assert lengths == Ranks(0, count).sizes(rows)
    assert max(lengths) - min(lengths) <= 1
    taken = [Ranks(rank, count).taken(rows) for rank in range(count)]
    assert all(
        slice(0, 1) == here if part.start == part.stop else here == part
        for part, here in zip(parts, taken, strict=True)
    )


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 20))
def test_ranks_of_a_network_in_parts_pass_as_often(rows: int, count: int, most: int) -> None:
    ranks = [Ranks(rank, count, sharded=True) for rank in range(count)]
    passes = [
        len(torch.zeros(rows + 1)[r.taken(rows + 1)].split(most)) + r.short_of(rows + 1, most) for r in ranks
    ]
    assert len(set(passes)) == 1
    assert passes[0] == -(-max(ranks[0].sizes(rows + 1)) // most)


def test_what_ranks_tell_one_another() -> None:
    for rank, found in enumerate(on_ranks(collectives, count=3)):
        rows = torch.arange(14.0).view(7, 2)
        assert torch.equal(found["rows"], rows)
        assert torch.equal(found["joined"], torch.tensor([0, 1, 1, 2, 2, 2]))
        assert found["each"] == [[place, place / 2] for place in range(5)]
        assert found["summed"] == [3.0, 3.0]
        assert found["any"] == [True, False]
        assert found["all"] == [False, True]
        assert [t.tolist() for t in found["level"]] == [[1.0, 1.0], [1], [[1.0]]]
        assert found["told"] == {"of": 2, "tensor": torch.tensor([2.0])}
        assert found["all_told"] == ["0", "11", "222"]
        assert found["first"] == [1, None, "x"]
        assert found["raised"] == ("DataError", "no such file")
        assert found["calls"] == (1 if rank == 0 else 0)


def test_idle_parameters_and_fewer_samples_than_ranks() -> None:
    alone = idle_and_few()
    for ranks in on_ranks(idle_and_few, count=3):
        assert ranks["result"] == alone["result"]
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(ranks["weights"][name], weight, rtol=0, atol=1e-5)


def test_gradients_in_bf16() -> None:
    full, half = on_ranks(reduced, "fp32")[0], on_ranks(reduced, "bf16")
    assert all(torch.equal(half[0][name], half[1][name]) for name in full)
    apart = max((half[0][name] - full[name]).abs().max().item() for name in full)
    assert 1e-6 < apart < 1e-2


def _packed(root: Path, shards: Path) -> Path:
    """A tar file for each class folder, in the folder's order."""
    shards.mkdir()
    for folder in sorted(root.iterdir()):
        with tarfile.open(shards / f"s-{folder.name}.tar", "w") as shard:
            for file in sorted(folder.iterdir()):
                shard.add(file, file.name)
                label = tarfile.TarInfo(f"{file.stem}.cls")
                label.size = 1
                shard.addfile(label, io.BytesIO(folder.name.encode()))
    return shards


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "apart"), [("folder", False), ("folder", True), ("tar", False)])
def test_pictures_are_read_by_one_rank_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, apart: bool
) -> None:
    """Shards are indexed by one of the ranks, and give the weights that the folder gives."""
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "set"
    generator = torch.Generator().manual_seed(0)
    for place in range(30):
        folder = root / "ab"[place % 2]
        folder.mkdir(exist_ok=True, parents=True)
        pixels = torch.randint(0, 256, (8, 8, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{place}.png")
    spec = f"folder:{root}" if kind == "folder" else f"tar:{_packed(root, tmp_path / 'shards')}/s-{{a,b}}.tar"
    first, second = on_ranks(streamed, spec, apart)
    alone = streamed(f"folder:{root}", apart)
    assert first["read"] + second["read"] == alone["read"] == 2 * alone["train"]
    assert first["read"] < 0.6 * alone["read"]
    same = all(torch.allclose(first["weights"][k], alone["weights"][k], atol=1e-5) for k in alone["weights"])
    assert same is not apart  # each rank's mixes are of its own part, with a stream of its own
    assert all(torch.equal(first["weights"][k], second["weights"][k]) for k in alone["weights"])
