"""Tables in text, against scikit-learn's own copies of UCI's; columns, parts, and what is refused."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_iris, load_wine

import lessonplan as lp
from lessonplan.cli import main
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
    told, x, left = features(bare, 2, Options())
    assert told == ["row 1", "row 2"]
    assert left == []
    assert x.tolist() == [[1, 2.5], [3, 4]]
    headed = written(tmp_path / "headed.csv", [["a", "class", "b"], [1, "x", 2.5], [3, "y", 4]])
    assert features(headed, 2, Options())[0] == ["row 2", "row 3"]
    assert features(headed, 2, Options())[1].tolist() == x.tolist()
    first = written(tmp_path / "first.csv", [["x", 1, 2.5], ["y", 3, 4]])
    assert features(Path(f"{first}#1"), 2, Options())[1].tolist() == x.tolist()
    with pytest.raises(DataError, match="has 3 columns, and the network takes 5 features"):
        features(headed, 5, Options())


@pytest.mark.parametrize(
    ("header", "order", "left"),
    [
        (["a", "b"], [0, 1], []),
        (["b", "a"], [1, 0], []),
        (["b", "label", "a"], [2, 0], []),
        (["id", "a", "b"], [1, 2], ["id"]),
        (["b", "Target", "note", "a"], [3, 0], ["note"]),
    ],
)
def test_rows_to_classify_by_the_names_of_their_columns(tmp_path: Path, header, order, left) -> None:
    rows = [[10 * row + place for place in range(len(header))] for row in range(1, 4)]
    path = written(tmp_path / "t.csv", [header, *rows])
    _, x, told = features(path, 2, Options(), ("a", "b"))
    assert x.tolist() == [[row[place] for place in order] for row in rows]
    assert told == left
    bare = written(tmp_path / "bare.csv", [[1, 2.5], [3, 4]])
    assert features(bare, 2, Options(), ("a", "b"))[1].tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize("names", [None, ("a",)])
def test_rows_of_one_feature(tmp_path: Path, names) -> None:
    path = written(tmp_path / "one.csv", [["a"], [1.5], [2]])
    assert features(path, 1, Options(), names)[1].tolist() == [[1.5], [2.0]]
    with pytest.raises(DataError, match="two at least"):
        opened(path)


def test_columns_that_training_had_and_a_table_has_not(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", [["a", "c"], [1, 2.5]])
    with pytest.raises(
        DataError, match=r"takes 'a', 'b', and 'b' is not among the columns of .*t.csv \('a', 'c'\)"
    ):
        features(path, 2, Options(), ("a", "b"))
    path = written(tmp_path / "u.csv", [["a", "b", "b"], [1, 2.5, 3]])
    with pytest.raises(DataError, match="'b' is more than once among"):
        features(path, 2, Options(), ("a", "b"))


def code_of(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_network_says_its_columns_and_predicts_by_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(0)
    rows = [[k, f"{rng.gauss(k, 0.3):.3f}", f"{rng.gauss(-k, 0.3):.3f}"] for k in [0, 1, 2] * 20]
    written(tmp_path / "t.csv", [["label", "a", "b"], *rows])
    lp.fit("fcnet-8", f"csv:{tmp_path / 't.csv'}", budget="20ep", out=tmp_path / "run", threads=1, lr=0.1)
    assert lp.load(tmp_path / "run").preprocessing.columns == ("a", "b")
    written(tmp_path / "bare.csv", [[a, b] for _, a, b in rows])
    written(tmp_path / "turned.csv", [["b", "id", "a"], *[[b, n, a] for n, (_, a, b) in enumerate(rows)]])
    answers = []
    for name in ("bare", "turned"):
        out = tmp_path / f"{name}-answers.csv"
        assert code_of("predict", tmp_path / "run", f"csv:{tmp_path / name}.csv", "--out", out) == 0
        answers.append([row.partition(",")[2] for row in out.read_text().splitlines()[1:]])
    assert answers[0] == answers[1]
    assert len({answer.partition(",")[0] for answer in answers[0]}) == 3
    assert "columns that the network does not take: 'id'" in capsys.readouterr().err
    written(tmp_path / "other.csv", [["b", "a", "label"], *[[b, a, k] for k, a, b in rows]])
    other = f"csv:{tmp_path / 'other.csv'}"
    assert code_of("evaluate", tmp_path / "run", "--data", other, "--out", tmp_path / "e") == 2
    assert "takes the features 'a', 'b', and the data have 'b', 'a'" in capsys.readouterr().err
    with pytest.raises(DataError, match="columns 'a', 'b' and the test set 'b', 'a'"):
        load(f"csv:{tmp_path / 't.csv'}", test=other)


def test_a_run_of_a_table_of_before_its_columns_were_kept_goes_on(tmp_path: Path) -> None:
    rows = [["label", "a", "b"], *[[n % 2, n, -n] for n in range(20)]]
    data = f"csv:{written(tmp_path / 't.csv', rows)}"
    first = lp.fit("fcnet-8", data, budget="2ep", out=tmp_path / "run", threads=1)
    file = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    assert config["input"]["preprocessing"].pop("columns") == ["a", "b"]
    file.write_text(yaml.safe_dump({**config, "format": 4}))
    assert lp.fit("fcnet-8", data, budget="2ep", out=tmp_path / "run", threads=1).result == first.result


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [["a", "label"], [1, 0.5], [2, 1]],
            "column 'label', holds 0.5 in row 2: labels must be classes, and these",
        ),
        ([["a", "b", "label"], [1, "red", "x"]], "holds 'red' in row 2: features are numbers; encode .* first$"),
        ([["a", "kind", "b"], [1, "red", 3]], "or name the column of the class behind a #"),
        (
            [["a;b"], ["1,5;x"], ["2,5;y"]],
            "column .*, holds '1,5': features are numbers; write numbers with a point",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path: Path, rows, said) -> None:
    with pytest.raises(DataError, match=said):
        opened(written(tmp_path / "t.csv", rows))


def test_a_path_with_the_sign_in_it(tmp_path: Path) -> None:
    (tmp_path / "a#b").mkdir()
    path = written(tmp_path / "a#b" / "t#1.csv", [["x", 1, 2.5], ["y", 3, 4]])
    assert opened(f"{path}#1").train.class_names == ("x", "y")
    with pytest.raises(DataError, match="column 1, holds 'x'"):
        opened(path)  # its class would be in the last column
    (tmp_path / "a#b" / "t#1.csv").rename(tmp_path / "a#b" / "train.csv")
    assert load(f"csv:{tmp_path / 'a#b'}#1", val_fraction=0, test_fraction=0.5).num_classes == 2


def test_weights_of_a_run_with_other_columns_are_refused(tmp_path: Path) -> None:
    rows = [[n % 2, n, -n] for n in range(20)]
    data = f"csv:{written(tmp_path / 't.csv', [['label', 'a', 'b'], *rows])}"
    turned = f"csv:{written(tmp_path / 'u.csv', [['label', 'b', 'a'], *rows])}"
    run = str(tmp_path / "run")
    lp.fit("fcnet-8", data, budget="2 steps", out=run, threads=1)
    lp.fit("fcnet-8", data, budget="2 steps", weights=run, threads=1)
    with pytest.raises(ConfigError, match="take the features 'a', 'b', and the data have 'b', 'a': give the same"):
        lp.fit("fcnet-8", turned, budget="2 steps", weights=run, threads=1)
