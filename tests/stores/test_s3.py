"""A real S3 server on this machine: MinIO where that program is, else moto's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.stores.holding import Holding
from lessonplan.stores.objects import Exists, Objects, StoreError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="processes are stopped by POSIX signals"),
]
s3fs = pytest.importorskip("s3fs", reason="the extra dev-s3 is not installed: pip install '.[dev-s3]'")
KEYS = {
    "AWS_ACCESS_KEY_ID": "lessonplan",
    "AWS_SECRET_ACCESS_KEY": "lessonplan",
    "AWS_DEFAULT_REGION": "us-east-1",
}
TRAIN = ["train", "--model", "fcnet-16", "--threads", "1"]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server of our own, with a bucket ``bkt``."""
    port, folder = _free_port(), tmp_path_factory.mktemp("s3")
    if minio := shutil.which("minio"):
        command = [minio, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder)]
    else:
        pytest.importorskip("moto.server", reason="neither minio nor the extra dev-s3 is installed")
        start = "import sys; from moto.server import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", start, "-H", "127.0.0.1", "-p", str(port)]
    users = {"MINIO_ROOT_USER": "lessonplan", "MINIO_ROOT_PASSWORD": "lessonplan"}
    address = f"http://127.0.0.1:{port}"
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **users})
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(address, timeout=1).close()
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
            else:
                break
        else:
            raise AssertionError((folder / "log.txt").read_text())
        s3fs.S3FileSystem(endpoint_url=address, key="lessonplan", secret="lessonplan").mkdir("bkt")
        yield address
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(autouse=True)
def configured(server, monkeypatch):
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def lessonplan(cache: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lessonplan", *arguments]
    environment = {**os.environ, "LESSONPLAN_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def there(url: str) -> list[str]:
    return [name for name in Objects(url).listing() if ".lessonplan" not in name]


def until_a_checkpoint(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not any(name > "checkpoints/step-0000000000.ckpt" for name in there(url) if name.endswith(".ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_stopped_killed_and_continued_elsewhere_it_is_the_undisturbed_run(tmp_path):
    url = "s3://bkt/run"
    train = [*TRAIN, "--budget", "1600ep", "--checkpoint-every", "1s"]  # goes on while others begin
    begun = lessonplan(tmp_path / "first", *train, "--out", url)
    until_a_checkpoint(url, begun)
    other = lessonplan(tmp_path / "second", *train, "--out", url)
    assert "another process is at work in s3://bkt/run (process" in other.communicate(timeout=120)[1]
    begun.send_signal(signal.SIGINT)
    assert "run the same command again" in begun.communicate(timeout=60)[1]
    assert begun.returncode == 130
    assert not [name for name in Objects(url).listing() if "lease" in name]
    begun = lessonplan(tmp_path / "second", *train, "--out", url)
    time.sleep(12)
    begun.kill()
    begun.communicate()
    done = lessonplan(tmp_path / "third", *train, "--out", url)
    said, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    assert "of s3://bkt/run, copied there" in said
    undisturbed = lessonplan(tmp_path / "none", *train, "--out", str(tmp_path / "undisturbed"))
    assert undisturbed.wait(300) == 0
    assert (
        Objects(url).read("weights.safetensors") == (tmp_path / "undisturbed" / "weights.safetensors").read_bytes()
    )
    assert lp.load(url).class_names == lp.load(tmp_path / "undisturbed").class_names


def test_large_objects_arrive_whole(tmp_path):
    objects = Objects("s3://bkt/large")
    content = os.urandom(70 * 2**20)
    (tmp_path / "large").write_bytes(content)
    objects.send(tmp_path / "large", "deep/large.bin")
    objects.fetch("deep/large.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert objects.listing()["deep/large.bin"].size == len(content)
    objects.remove("deep/large.bin")
    objects.remove("deep/large.bin")
    assert objects.listing() == {}


def test_an_object_is_made_only_where_there_is_none():
    objects = Objects("s3://bkt/once")
    objects.create("a", b"1")
    with pytest.raises(Exists):
        objects.create("a", b"2")
    assert objects.read("a") == b"1"
    assert 0 <= objects.seconds_since("a") < 60
    holding = Holding(objects)
    with pytest.raises(ConfigError, match="at work in s3://bkt/once"):
        Holding(objects)
    holding.release(answers=True)


def test_what_is_wrong_is_told_in_a_sentence(monkeypatch, tmp_path):
    with pytest.raises(StoreError, match="the bucket or folder of s3://nobody-has-it/run is not there: make it"):
        lp.fit("fcnet-16", "digits", budget="1ep", out="s3://nobody-has-it/run")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{_free_port()}")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match="s3://bkt/run could not be reached"):
        lp.load("s3://bkt/run")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match="no credentials for s3://bkt/run"):
        lp.load("s3://bkt/run")
