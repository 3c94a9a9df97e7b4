"""The page over a running comparison: what it counts, what it answers, and whom."""

from __future__ import annotations

import http.client
import json
import threading

import pytest

from lessonplan.errors import ConfigError, DataError
from lessonplan.lock import sole_user
from lessonplan.report.live import live_context
from lessonplan.report.watching import Watch


def epoch(number: int, accuracy: float) -> str:
    line = {"epoch": number, "cost": 100.0 * number, "seconds": 10.0 * number, "val": {"accuracy": accuracy}}
    return json.dumps(line) + "\n"


@pytest.fixture
def running(tmp_path):
    """Six runs: one done and told, one done and untold, one failed, one running, two waiting."""

    def row(method: str, seed: int, status: str) -> dict:
        folder = tmp_path / "runs" / f"{method}-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(epoch(1, 0.5) + epoch(2, 0.6))
        seconds = 40.0 if status == "finished" else None
        return {"seed": seed, "status": status, "folder": f"runs/{folder.name}", "seconds": seconds}

    methods = [
        {"name": "erm", "runs": [row("erm", 0, "finished"), row("erm", 1, "waiting"), row("erm", 2, "failed")]},
        {
            "name": "<b>mix</b>",
            "runs": [row("mix", 0, "waiting"), row("mix", 1, "waiting"), row("mix", 2, "waiting")],
        },
    ]
    (tmp_path / "runs" / "erm-seed1" / "result.json").write_text("{}")
    failures = [{"method": "erm", "seed": 2, "error": "NaN & <script>alert(1)</script>", "folder": "x"}]
    results = {"schema": 1, "title": "a <i>title</i>", "reference": "erm", "level": 0.95}
    (tmp_path / "results.json").write_text(json.dumps({**results, "methods": methods, "failures": failures}))
    with sole_user(tmp_path / "runs" / "mix-seed1"):
        yield tmp_path


def test_what_is_counted(running):
    found = live_context(running)
    assert found["total"] == {"done": 2, "running": 1, "failed": 1, "waiting": 2, "all": 6}
    assert [method["running"] for method in found["methods"]] == [0, 1]
    assert found["curves"]
    assert found["refresh"]


def test_the_time_left_is_that_of_the_unfinished_at_so_many_a_time(running):
    results = json.loads((running / "results.json").read_text())
    rows = results["methods"][1]["runs"]
    rows[0] |= {"status": "finished", "seconds": 50.0}
    (running / "results.json").write_text(json.dumps(results))
    # the running one has done 20 of 50 seconds, one waits: 30 + 50, one at a time
    assert live_context(running)["left"] == 80.0


def test_when_all_is_over_nothing_is_asked_again(running):
    results = json.loads((running / "results.json").read_text())
    for method in results["methods"]:
        for row in method["runs"]:
            row["status"] = "finished"
    (running / "results.json").write_text(json.dumps(results))
    found = live_context(running)
    assert found["refresh"] is None
    assert found["total"]["done"] == 6


@pytest.fixture
def server(running):
    with Watch(running) as watch:
        thread = threading.Thread(target=watch.serve_forever, daemon=True)
        thread.start()
        yield watch
        watch.shutdown()
        thread.join()


def ask(server, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer, content


def test_the_page_is_whole_escaped_and_for_this_machine_alone(server):
    answer, content = ask(server)
    assert answer.status == 200
    assert answer.getheader("Cache-Control") == "no-store"
    assert "2 of 6 runs done, 1 running, 1 failed, 2 waiting" in content
    assert 'http-equiv="refresh"' in content
    assert "<svg" in content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content
    assert "<script>alert" not in content
    assert "<b>mix</b>" not in content
    assert "a <i>title" not in content
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, Host="evil.example")[0].status == 421
    assert ask(server, Host=f"localhost:{server.server_port}")[0].status == 200


@pytest.mark.parametrize(
    "path",
    ["/results.json", "/../results.json", "/%2e%2e/etc/passwd", "//etc/passwd", "/runs/", "/etc/passwd", "*"],
)
def test_no_other_file_is_answered(server, path):
    answer, content = ask(server, path)
    assert answer.status in (400, 404)
    assert "schema" not in content


def test_other_ways_to_ask(server):
    answer, content = ask(server, method="HEAD")
    assert (answer.status, content) == (200, "")
    assert ask(server, method="POST")[0].status == 501


def test_a_damaged_file_is_told_and_asked_for_again(server, running):
    (running / "results.json").write_text("{")
    answer, content = ask(server)
    assert answer.status == 503
    assert "is not valid JSON" in content
    assert answer.getheader("Refresh")


def test_what_cannot_be_watched(tmp_path, server, running):
    with pytest.raises(DataError, match="no comparison folder"):
        Watch(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=f"port {server.server_port} cannot be had"):
        Watch(running, server.server_port)
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        Watch(running, 70000)
