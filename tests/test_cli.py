"""The command line: what it promises to scripts, and what it says to people."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import lessonplan
from lessonplan import cli
from lessonplan.commands import COMMAND_TYPES, option_names
from lessonplan.errors import ConfigError
from lessonplan.lab.ordering.recipe import search_recipes
from lessonplan.lab.recipe import all_recipes

CLASSES = ("blot", "stripe")


def picture(key: int, label: int, side: int = 16) -> Image.Image:
    """A noisy image with a bright blot or bright stripes."""
    rng = np.random.default_rng(key)
    pixels = rng.integers(0, 80, (side, side, 3))
    if label == 0:
        pixels[4:12, 4:12] += 150
    else:
        pixels[::4] += 150
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of two classes, as the Hugging Face hub stores them."""
    rows = []
    for i in range(40):
        buffer = io.BytesIO()
        picture(i, i % 2).save(buffer, "PNG")
        rows.append({"image": {"bytes": buffer.getvalue(), "path": f"{i}.png"}, "label": i % 2})
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    path = tmp_path_factory.mktemp("parquet") / "train.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def trained(parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the issue's ``train`` line, on the images above."""
    out = tmp_path_factory.mktemp("trained") / "run"
    line = f"train --data parquet:{parquet} --model wrn-16-1 --mix cascade:k=4 --budget 20ep --seed 0 --out {out}"
    assert run_main(f"{line} --threads 1") == 0
    return out


def run_main(line: str | list[str]) -> int:
    """The exit code of a command done in this process."""
    with pytest.raises(SystemExit) as stop:
        cli.main(line.split() if isinstance(line, str) else line)
    return int(stop.value.code or 0)


def test_help_and_version_answer_at_once_and_without_pytorch() -> None:
    """The fastest of three, in seconds of processor time, so that a busy machine decides nothing."""
    for option, words in (("--help", "usage: lessonplan COMMAND"), ("--version", lessonplan.__version__)):
        times = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [sys.executable, "-m", "lessonplan", option], capture_output=True, text=True, check=True
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert words in done.stdout
        assert min(times) < 0.5


def test_what_needs_no_training_needs_no_pytorch() -> None:
    """Help of every command and mistakes in options are answered before the heavy imports."""
    script = """
import contextlib, io, sys
from lessonplan import cli
for line in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main(line.split())
        except SystemExit:
            pass
    heavy = {"torch", "matplotlib", "sklearn", "scipy"} & set(sys.modules)
    assert not heavy, (line, heavy)
"""
    lines = [f"{command} --help" for command in cli.COMMANDS]
    lines += ["--help", "--version", "comapre", "compare --sedes 3", "train --out x --lr -1", "preview"]
    subprocess.run([sys.executable, "-c", script, *lines], check=True)


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main([]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(f"{command} --help") == 0
    said = capsys.readouterr().out
    assert f"lessonplan {command}" in said
    shown = re.findall(r"^│ (?:-h, )?((?:--[a-z-]+(?:, )?)+)", said, re.MULTILINE)
    options = {name for names in shown for name in names.split(", ")}
    assert options <= {*option_names(COMMAND_TYPES[command]), "--help"}


MISTAKES = [
    ("comapre", "did you mean 'compare'"),
    ("--out x", "unknown command '--out'"),
    ("compare", "--out"),
    ("compare --out {new} --mehtods erm", "did you mean '--methods'"),
    ("compare --out {new} --methods mixpu", "did you mean 'mixup'"),
    ("compare --out {new} --methods erm,erm", "twice"),
    ("compare --out {new} --methods ,", "no methods"),
    ("compare --out {new} --methods sum:kk=2", "'kk'"),
    ("compare --out {new} --methods plans.yaml", "plans.yaml does not exist"),
    ("compare --out {new} --model tyni", "did you mean 'tiny'"),
    ("compare --out {new} --model lenet", "16 x 16"),
    ("lr --from 10 --to 1 --out {new}", "from 10 to 1 is none"),
    ("lr --steps 3 --out {new}", "at least 10"),
    ("lr --form 1", "did you mean '--from'"),
    ("compare --out {new} --budget 20", "'20ep'"),
    ("compare --out {new} --seeds some", "--seeds 'some'"),
    ("compare --out {new} --seeds 0", "at least one seed"),
    ("compare --out {new} --seeds 1,1", "each once"),
    ("compare --out {new} --level 95", "less than 1"),
    ("compare --out {new} --level high", "'high'"),
    ("compare --out {new} --jobs 0", "--jobs 0"),
    ("compare --out {new} --reference mixpu", "did you mean 'mixup'"),
    ("compare --out {new} --data digist", "did you mean 'digits'"),
    ("compare --out {new} --data folder:{new}", "does not exist"),
    ("compare --out {new} --data npz:{file}", "{file}"),
    ("compare --out {new} --per-class 500", "500"),
    ("compare --out {new} --per-class few", "'few'"),
    ("compare --out {new} --val-fraction 2", "--val-fraction 2"),
    ("compare --out {new} --augment flpi", "did you mean 'flip'"),
    ("compare --out {new} --schedule cosin", "did you mean 'cosine'"),
    ("compare --out {new} --optimizer sdg", "'sgd'"),
    ("compare --out {new} --batch-size 0", "--batch-size 0"),
    ("compare --out {new} --batch-size 5000", "717"),
    ("compare --out {new} --methods sum:k=400", "k=400 is larger than the batch"),
    ("compare --out {new} --checkpoint-every often", "'60s'"),
    ("compare --out {new} --device cudda", "cudda"),
    ("compare --out {new} extra", "extra"),
    ("compare --out {new} --lr", "--lr"),
    ("compare --out {file}", "is a file"),
    ("train --out {new} --mix mixpu", "did you mean 'mixup'"),
    ("train --out {new} --model wrn-17-1", "16, 22, 28"),
    ("train --out {new} --budget 3parsecs", "3parsecs"),
    ("train --out {new} --seed one", "'one'"),
    ("train --out {new} --lr -1", "--lr -1"),
    ("train --out {new} --keep best --val-fraction 0", "give --val-fraction, or --keep 'last'"),
    ("train --out {new} --per-class 1", "leaves nothing for --val-fraction: use --val-per-class"),
    ("train --out {file}", "is a file"),
    ("preview", "--out"),
    ("preview --out {new}.png --mix sum:k=0", "k of at least 1"),
    ("preview --out {new}.png --count 0", "at least 1 picture"),
    ("preview --out {new}.jpeg2", ".png"),
    ("predict {new} {file}", "no folder of a run"),
    ("predict {new}", "FILE_OR_FOLDER"),
    (
        "predict {new} --image {file}",
        "(known: --help, --json, --no-json, --no-quiet, --out, --quiet)",
    ),  # what has no name is none of the options
    ("export {new}", "no folder of a run"),
    ("export {new} --opset new", "'new'"),
    ("reproduce thesis31 --out {new}", "did you mean 'thesis-3.1'"),
    ("reproduce thesis-3.1 --scale huge --out {new}", "'smoke'"),
    ("reproduce thesis-3.1 --scale paper --out {new}", "CIFAR-10"),
    ("report {new}", "{new}"),
    ("recipes all", "all"),
]


@pytest.mark.parametrize(("line", "words"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    line: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("no data")
    names = {"new": str(tmp_path / "new"), "file": str(tmp_path / "taken")}
    assert run_main([part.format(**names) for part in line.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [message] = printed.err.splitlines()
    assert message.startswith("lessonplan: ")
    assert words.format(**names) in message
    assert not re.search(r"Traceback|--{4}|[│╭]", message)
    assert not (tmp_path / "new").exists()


def test_a_mistake_reads_the_same_where_the_terminal_has_no_frames(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lessonplan", "compare", "--out", str(tmp_path / "x"), "--level", "high"],
        capture_output=True,
        text=True,
        env={"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "lessonplan: Error parsing --level: could not convert string to float: 'high'"
        " (lessonplan compare --help shows what can be given)\n"
    )


def test_lr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lr"
    line = f"lr --model fcnet-16 --mix mixup --from 1e-5 --to 1 --steps 60 --keep best --threads 1 --out {out}"
    assert run_main(line) == 0
    said = capsys.readouterr().out.splitlines()
    found = json.loads((out / "lr.json").read_text())
    assert said[0].startswith(f"Suggested learning rate: {found['suggested']:.2g}")
    assert said[-1] == f"page: {out / 'index.html'}"
    assert {path.name for path in out.iterdir()} == {"index.html", "lr.json", "lr.png"}
    assert found["config"]["data"]["sizes"]["val"] > 0
    assert run_main(f"report {out}") == 0
    assert run_main("lr --model fcnet-16 --steps 10 --to 1e-5 --threads 1") == 0
    assert "No learning rate can be suggested: the loss never falls" in capsys.readouterr().out


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    line = f"compare --data digits --per-class 10 --methods erm,mixup,sum,cascade,gradual --seeds 1 --out {out}"
    small = ["--model", "fcnet-16", "--jobs", "1", "--threads", "1", "--batch-size", "20"]
    assert run_main([*line.split(), "--budget", "400 samples", *small]) == 0
    printed = capsys.readouterr()
    for method in ("erm", "mixup", "sum", "cascade", "gradual"):
        assert f"{method} reaches" in printed.out
    assert f"page: {out / 'index.html'}" in printed.out
    assert printed.err == ""
    results = json.loads((out / "results.json").read_text())
    assert [method["samples"] for method in results["methods"]] == pytest.approx([400] * 5, abs=20)
    assert (out / "results.csv").is_file()
    assert (out / "index.html").is_file()
    assert len(list(out.glob("runs/*/result.json"))) == 5


def test_train_writes_a_run_and_a_second_call_trains_nothing(
    trained: Path, parquet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("config.yaml", "metrics.jsonl", "weights.safetensors", "index.html"):
        assert (trained / name).stat().st_size > 0
    assert list((trained / "checkpoints").glob("*.ckpt"))
    before = {
        f: f.stat().st_mtime_ns for f in trained.rglob("*") if f.suffix in (".jsonl", ".safetensors", ".ckpt")
    }
    line = (
        f"train --data parquet:{parquet} --model wrn-16-1 --mix cascade:k=4 --budget 20ep --seed 0 --out {trained}"
    )
    assert run_main(line) == 0
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert "test accuracy" in capsys.readouterr().out
    assert run_main(line.replace("--seed 0", "--seed 1")) == 2
    assert "seed: 0 -> 1" in capsys.readouterr().err


def test_predict(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    (images / "below").mkdir(parents=True)
    for i in range(6):
        picture(100 + i, i % 2, side=24).save(images / f"{i}.png")
    picture(200, 0).convert("L").save(images / "below" / "grey.JPG")
    whole = (images / "0.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "text.jpeg").write_text("no image")
    out = tmp_path / "folder" / "predictions.csv"
    assert run_main(f"predict {trained} {images} --out {out}") == 0
    printed = capsys.readouterr()
    assert "7 images classified, 2 unreadable" in printed.out
    named = printed.err.splitlines()
    assert len(named) == 2
    assert str(images / "cut.png") in named[0]
    assert str(images / "text.jpeg") in named[1]
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    for row in rows:
        shares = {name: float(row[name]) for name in CLASSES}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["class"] == max(shares, key=shares.__getitem__)
        assert float(row["probability"]) == max(shares.values())
    by_file = {Path(row["file"]).name: row for row in rows}
    classifier = lessonplan.load(trained)
    for i in range(6):
        alone = classifier.predict([images / f"{i}.png"])[0].tolist()
        assert [float(by_file[f"{i}.png"][name]) for name in CLASSES] == pytest.approx(alone, abs=1e-4)


def test_what_begins_with_a_dash_stands_behind_two(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(5, 1).save(tmp_path / "-lead.png")
    assert run_main(f"predict {trained} --out one.csv -- -lead.png") == 0
    assert (tmp_path / "one.csv").read_text().splitlines()[1].startswith("-lead.png,")


def test_predict_one_image_and_none(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(5, 1).save(tmp_path / "one.bmp")
    out = tmp_path / "one.csv"
    assert run_main(f"predict {trained} {tmp_path / 'one.bmp'} --out {out}") == 0
    assert len(out.read_text().splitlines()) == 2
    capsys.readouterr()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    for images in (tmp_path / "bad", tmp_path / "nowhere"):
        assert run_main(f"predict {trained} {images} --out {tmp_path / 'never.csv'}") == 2
    assert not (tmp_path / "never.csv").exists()


def test_pictures_of_telephones_are_told_with_what_to_do(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "1.HEIC").write_bytes(b"x")
    for code, said in (
        (2, "but files ending in .heic (1); save .heic as JPEG"),
        (0, "endings: .heic (1); save .heic"),
    ):
        assert run_main(f"predict {trained} {tmp_path / 'new'} --out {tmp_path / 'p.csv'}") == code
        assert said in capsys.readouterr().err
        Image.new("RGB", (9, 9)).save(tmp_path / "new" / "2.png")


@pytest.mark.parametrize("mix", ["sum:k=4", "erm", "mixup|cutmix"])
def test_preview(mix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mixed.png"
    assert run_main(["preview", "--data", "digits", "--mix", mix, "--out", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    with Image.open(file) as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--mix sum:k=4", "lessonplan: 20 training pictures give 5, where --count asks for 9"),
        ("--mix none --count 31", "lessonplan: 20 training pictures give 20, where --count asks for 31"),
        ("--mix mixup", ""),
    ],
)
def test_a_preview_of_fewer_pictures_says_so(
    options: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(f"preview --data digits --per-class 3 --count 9 --out {tmp_path / 'a.png'} {options}") == 0
    assert capsys.readouterr().err.strip() == said


def test_preview_of_layers_of_another_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mix = "cascade:k=4,pairing=permute,layers=input/hidden"
    line = ["preview", "--mix", mix, "--out", str(tmp_path / "mixed.png")]
    assert run_main(line) == 2
    assert "names layers of a network, and none was given" in capsys.readouterr().err
    options = "--data digits --per-class 4 --model fcnet-8 --budget 5steps"
    assert run_main([*f"train {options} --out {tmp_path / 'run'}".split(), "--mix", mix]) == 0
    assert run_main([*line, "--run", str(tmp_path / "run")]) == 0


def test_preview_of_other_mixes_differs(tmp_path: Path) -> None:
    for name, mix in (("a", "erm"), ("b", "erm"), ("c", "sum:k=2")):
        assert run_main(f"preview --mix {mix} --count 2 --out {tmp_path / name}.png") == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_preview_of_a_folder(tmp_path: Path) -> None:
    for i in range(12):
        folder = tmp_path / "data" / CLASSES[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(i, i % 2, side=16 + i % 3).save(folder / f"{i}.png")
    assert run_main(f"preview --data {tmp_path / 'data'} --image-size 20 --mix mixup --out {tmp_path}/m.png") == 0
    assert (tmp_path / "m.png").is_file()


def test_report_writes_the_pages_again(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = trained / "index.html"
    before = page.read_text()
    page.unlink()
    assert run_main(f"report {trained}") == 0
    assert capsys.readouterr().out == f"page: {page}\n"
    assert len(page.read_text()) == pytest.approx(len(before), rel=0.01)


def test_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted([*(r.name for r in all_recipes()), *search_recipes()])
    assert all("smoke" in line for line in lines)


def test_reproduce(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lessonplan.report.write_run", lambda folder: None)  # a second each, and tested elsewhere
    out = tmp_path / "out"
    line = f"reproduce thesis-3.4 --scale smoke --seeds 1 --jobs 1 --out {out} --budget"
    assert run_main([*line.split(), "80 samples"]) == 0
    printed = capsys.readouterr().out
    assert "UNDECIDED:" in printed
    assert f"page: {out / 'index.html'}" in printed
    assert (out / "index.html").is_file()


def test_ctrl_c_within_a_process_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert run_main("recipes") == 130
    assert "run the same command again" in capsys.readouterr().err


def test_output_that_nobody_reads_to_the_end():
    """`lessonplan recipes | head -1`: no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "lessonplan", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_results_among_class_folders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next command would read them as a class; beside train/ and test/ they are in nobody's way."""
    monkeypatch.chdir(tmp_path)
    for part in ("plain", "parts/train", "parts/test"):
        for i, name in enumerate(("cat", "dog")):
            (Path(part) / name).mkdir(parents=True)
            for place in range(3):
                picture(place + 3 * i + 10 * part.endswith("test"), 3).save(f"{part}/{name}/{place}.png")
    for what in (
        "plain --out plain/look",
        "folder:plain --out plain",
        "plain --test parts/test --out parts/test/look",
    ):
        assert run_main(f"check {what}") == 2
        assert "lies among the class folders of" in capsys.readouterr().err
    for inside in ("plain/run", "plain/cat/run", "parts/../plain/run"):
        assert run_main(f"train --data folder:plain --out {inside}") == 2
        assert "give a folder elsewhere" in capsys.readouterr().err
    assert run_main("compare --data parts/train --out parts/train/run") == 2
    assert run_main("preview --data plain --out plain/cat/seen.png") == 2
    capsys.readouterr()
    assert run_main("preview --data plain --out seen.png --mix none") == 0
    for what in ("plain --out plainer", "parts --out parts/look"):
        assert run_main(f"check {what}") == 0
    assert sorted(path.name for path in Path("plain").iterdir()) == ["cat", "dog"]
    assert run_main("check plain --out plain/.look") == 0  # hidden folders are not read


def test_predict_rows_of_a_table(tmp_path, capsys):
    """A run on a CSV file classifies the rows of another, with and without their classes."""
    rows = [(i % 2 * 4 + i % 5 / 5, i % 3, "yes" if i % 2 else "no") for i in range(60)]
    table, bare = tmp_path / "t.csv", tmp_path / "new.csv"
    table.write_text("a,b,class\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    bare.write_text("".join(f"{a},{b}\n" for a, b, _ in rows[:70]))
    run = tmp_path / "run"
    assert (
        run_main(["train", "--data", str(table), "--model", "fcnet-8", "--budget", "30ep", "--out", str(run)]) == 0
    )
    found = []
    for file in (table, bare):
        out = tmp_path / f"{file.stem}.out.csv"
        assert run_main(["predict", str(run), str(file), "--out", str(out)]) == 0
        with out.open() as lines:
            found.append(list(csv.DictReader(lines)))
    with_class, without = found
    assert [row["row"] for row in with_class] == [f"row {i + 2}" for i in range(60)]
    assert [row["row"] for row in without] == [f"row {i + 1}" for i in range(60)]
    assert [row["class"] for row in with_class] == [row["class"] for row in without]
    right = sum(row["class"] == c for row, (*_, c) in zip(with_class, rows, strict=True))
    assert right > 54
    capsys.readouterr()
    bare.write_text("1,2,3,4\n5,6,7,8\n")
    assert run_main(["predict", str(run), str(bare)]) == 2
    assert "has 4 columns, and the network takes 2 features" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "wanted"), [([], 0.0), (["--test-fraction", "0.5"], 0.5)])
def test_advise_sets_test_data_aside_if_it_is_told_to(
    given: list[str], wanted: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what is given is what other commands do unasked."""
    seen: list[dict[str, object]] = []

    def advise(data: str, **options: object) -> None:
        seen.append(options)
        raise ConfigError("that is all")

    monkeypatch.setattr("lessonplan.lab.advice.advise", advise)
    command = ["advise", "--data", "digits", "--time", "1min", "--out", str(tmp_path / "out"), *given]
    assert run_main(command) == 2
    assert seen[0]["test_fraction"] == wanted
