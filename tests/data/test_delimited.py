"""Tables in text, against scikit-learn's own copies of UCI's; columns, parts, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, load_wine

from lessonplan.data import load
from lessonplan.data.base import Options
from lessonplan.data.delimited import features, from_csv
from lessonplan.errors import ConfigError, DataError


def written(path: Path, rows: list[list[object]], by: str = ",") -> Path:
    path.write_text("".join(by.join(map(str, row)) + "\n" for row in rows))
    return path


def opened(path: Path | str):
    return from_csv(Path(path), Options())


@pytest.mark.parametrize("by", [",", ";", "\t", "  ", ", "])
def test_uci_tables(tmp_path: Path, by: str) -> None:
    """Iris has its class last as a word, wine first as a number; neither has a header."""
    iris, wine = load_iris(), load_wine()
    words = [*(f"Iris-{name}" for name in iris.target_names)]
    path = written(
        tmp_path / "iris.data", [[*x, words[y]] for x, y in zip(iris.data, iris.target, strict=True)], by
    )
    source = opened(path).train
    assert source.class_names == tuple(words)
    assert torch.equal(source.labels, torch.from_numpy(iris.target))
    assert torch.equal(source.read(torch.arange(150)), torch.from_numpy(iris.data.astype(np.float32)))
    rows = [[y + 1, *x] for x, y in zip(wine.data, wine.target, strict=True)]
    source = opened(f"{written(tmp_path / 'wine.data', rows, by)}#1").train
    assert source.class_names == ("1", "2", "3")
    assert torch.equal(source.labels, torch.from_numpy(wine.target))
    assert source.shape == (13,)


@pytest.mark.parametrize(
    ("header", "asked", "names"),
    [
        ("a,class,b", "", ("x", "z")),
        ("a,kind,b", "#kind", ("x", "z")),
        ("a,kind,b", "#2", ("x", "z")),
        ("a,kind,b", "", None),  # the last column is numbers: then the words are no features
    ],
)
def test_columns(tmp_path: Path, header: str, asked: str, names: tuple[str, ...] | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1,x,2.5\n\n3,z,4\n5,x,6\n")
    if names is None:
        with pytest.raises(DataError, match=r"column 'kind', holds 'x' in row 2: .*csv:PATH#1"):
            opened(f"{path}{asked}")
        return
    source = opened(f"{path}{asked}").train
    assert source.class_names == names
    assert source.labels.tolist() == [0, 1, 0]
    assert source.read(torch.tensor([1])).tolist() == [[3, 4]]


def test_parts(tmp_path: Path) -> None:
    """A test part may lack classes; a validation part is validation."""
    written(tmp_path / "train.csv", [["a", "label"], *([i, "no" if i % 2 else "yes"] for i in range(20))])
    written(tmp_path / "validation.csv", [["a", "label"], [100, "yes"], [101, "no"]])
    written(tmp_path / "test.csv", [["a", "label"], [200, "yes"], [201, "yes"]])
    data = load(str(tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (20, 2, 2)
    assert data.class_names == ("no", "yes")
    assert data.test.labels.tolist() == [1, 1]
    assert sorted(data.val.raw(torch.arange(2)).flatten().tolist()) == [100, 101]
    written(tmp_path / "test.csv", [["a", "label"], [200, "maybe"]])
    with pytest.raises(DataError, match="class 'maybe', which training has not"):
        load(f"csv:{tmp_path}")
    written(tmp_path / "test.csv", [["b", "label"], [200, "yes"]])
    with pytest.raises(DataError, match=r"other columns than train\.csv"):
        load(f"csv:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,y\n1,0\n?,1\n", "column 'a', has no value in row 3"),
        ("a,y\n1,0\nnan,1\n", "column 'a', has no value in row 3"),
        ("a,y\n1e400,0\n2,1\n", "column 'a', holds '1e400' in row 2"),
        ("1,0\n2,1,3\n", "row 2, has 3 fields and the first 2"),
        ("1\n2\n", "two at least"),
        ("1,\n", "no class in row 1"),
        ("", "is empty"),
        ("a,y\n1,0\n2,\n", "no class in row 3"),
        ("\x00\x01\n\xff", "fields|rows"),
        ('a,"' + "x" * 2**21, "no table in text"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        opened(path)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", [["a", "colour"], [1, "red"], [2, "blue"]])
    with pytest.raises(ConfigError, match="did you mean 'colour'"):
        opened(f"{path}#color")
    with pytest.raises(ConfigError, match="'3'"):
        opened(f"{path}#3")
    with pytest.raises(DataError, match="no folder with a train"):
        opened(tmp_path)
    (tmp_path / "u.csv").write_bytes(b"\xff\xfe\x00a,b\n")
    with pytest.raises(DataError, match="no table in text"):
        opened(tmp_path / "u.csv")
    with pytest.raises(DataError, match="memory_limit"):
        from_csv(path, Options(memory_limit=10))


def test_rows_to_classify(tmp_path: Path) -> None:
    """With the class or without it, with a header or without one."""
    bare = written(tmp_path / "bare.csv", [[1, 2.5], [3, 4]])
    names, x = features(bare, 2, Options())
    assert names == ["row 1", "row 2"]
    assert x.tolist() == [[1, 2.5], [3, 4]]
    headed = written(tmp_path / "headed.csv", [["a", "class", "b"], [1, "x", 2.5], [3, "y", 4]])
    assert features(headed, 2, Options())[0] == ["row 2", "row 3"]
    assert features(headed, 2, Options())[1].tolist() == x.tolist()
    first = written(tmp_path / "first.csv", [["x", 1, 2.5], ["y", 3, 4]])
    assert features(Path(f"{first}#1"), 2, Options())[1].tolist() == x.tolist()
    with pytest.raises(DataError, match="has 3 columns, and the network takes 5 features"):
        features(headed, 5, Options())


def test_a_path_with_the_sign_in_it(tmp_path: Path) -> None:
    (tmp_path / "a#b").mkdir()
    path = written(tmp_path / "a#b" / "t#1.csv", [["x", 1, 2.5], ["y", 3, 4]])
    assert opened(f"{path}#1").train.class_names == ("x", "y")
    with pytest.raises(DataError, match="column 1, holds 'x'"):
        opened(path)  # its class would be in the last column
    (tmp_path / "a#b" / "t#1.csv").rename(tmp_path / "a#b" / "train.csv")
    assert load(f"csv:{tmp_path / 'a#b'}#1", val_fraction=0, test_fraction=0.5).num_classes == 2
