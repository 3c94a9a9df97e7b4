"""The pages in a real browser: no errors, figures drawn, tables sorted, no sideways scrolling on a phone."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lessonplan.report import write_comparison, write_run

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
SCHEMES = {"dark": 0, "light": 1}  # chromium's own numbers


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    spec = importlib.util.spec_from_file_location("browser_synthetic", HERE.parent / "report" / "synthetic.py")
    assert spec is not None
    assert spec.loader is not None
    synthetic = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synthetic)
    root = tmp_path_factory.mktemp("comparison")
    synthetic.write_comparison_folder(root)
    write_comparison(root)
    write_run(root / "runs/m0-seed0-0a1b2c3d")
    return root


def visit(browser: str, page: Path, scheme: str, work: Path) -> tuple[dict[str, Any], list[str]]:
    """What the probe saw on a page, and what the browser wrote to its console."""
    text = json.dumps(page.read_text(encoding="utf-8")).replace("</", "<\\/").replace("<!--", "<\\!--")
    probe = work / f"probe-{scheme}.html"
    probe.write_text((HERE / "probe.html").read_text().replace("PAGE_AS_JSON", text), encoding="utf-8")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={work / 'profile'}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        "--window-size=1400,1000", "--virtual-time-budget=20000", "--enable-logging=stderr", "--v=0", "--dump-dom",
        probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, f"the probe wrote no report (exit {done.returncode}): {done.stderr[-2000:]}"
    return json.loads(html.unescape(found.group(1))), [
        line for line in done.stderr.splitlines() if "CONSOLE" in line
    ]


@pytest.fixture(scope="session", params=list(SCHEMES))
def seen(request, browser, folder, tmp_path_factory) -> tuple[str, dict[str, Any], list[str]]:
    work = tmp_path_factory.mktemp("browser")
    return request.param, *visit(browser, folder / "index.html", request.param, work)


def luminance(color: str) -> float:
    """Relative luminance of a computed ``rgb(r, g, b)`` (WCAG 2.2)."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_no_console_output(seen):
    assert seen[2] == []


def test_scheme_is_followed_and_readable(seen):
    scheme, report, _ = seen
    assert report["dark"] == (scheme == "dark")
    page = report["desk"]
    assert (luminance(page["background"]) < 0.1) == (scheme == "dark")
    assert contrast(page["background"], page["ink"]) >= 7
    for plot in page["plots"]:
        assert contrast(page["background"], plot["text"]) >= 4.5, plot["name"]


@pytest.mark.parametrize("device", ["phone", "desk"])
def test_figures_are_drawn(seen, device):
    page = seen[1][device]
    assert len(page["plots"]) == 11  # seven against the axis that is shown, scores, differences, two bars of cost
    for plot in page["plots"]:
        assert min(plot["width"], plot["drawn"]) > 200, plot["name"]
        assert plot["height"] > 100, plot["name"]
        assert plot["right"] <= page["width"], plot["name"]
    assert [image["alt"].split(":")[0] for image in page["images"]] == ["erm", "mixup", "Figure 3.1"]
    assert all(image["width"] == 120 and image["shown"] > 0 for image in page["images"])


@pytest.mark.parametrize("device", ["phone", "desk"])
def test_one_switch_turns_every_curve_to_another_axis(seen, device):
    switched = seen[1][device]["switched"]
    assert [turn["axis"] for turn in switched] == ["cost", "epochs"]
    for turn in switched:
        assert turn["against"] == [turn["axis"]]
        assert turn["plots"] == 7
        assert turn["overflow"] <= 0


def test_phone_never_scrolls_sideways_but_its_tables_do(seen):
    phone = seen[1]["phone"]
    assert phone["width"] == 390
    assert phone["overflow"] <= 0
    assert phone["overflowOpen"] <= 0
    assert phone["scrolls"]
    assert seen[1]["desk"]["overflow"] <= 0
    assert not seen[1]["desk"]["scrolls"]


def test_headings_sort(seen, folder):
    desk = seen[1]["desk"]
    methods = json.loads((folder / "results.json").read_text())["methods"]
    means = {method["name"]: method["mean"] for method in methods}
    holm = {method["name"]: (method["difference"] or {}).get("p_holm") for method in methods}
    first, up, down, by_name, by_p = desk["sorts"]
    assert first["names"] == list(means)
    assert set(first["states"]) == {None}
    assert up["names"] == sorted(means, key=means.__getitem__)
    assert up["names"] != first["names"]
    assert down["names"] == up["names"][::-1]
    assert by_name["names"][1:] == sorted(name for name in means if not name.startswith("<"))
    assert by_p["names"][-1] == "erm"  # unknown values come last
    assert by_p["names"][:-1] == sorted((name for name in holm if name != "erm"), key=lambda name: holm[name])
    for sort, state in ((up, "ascending"), (down, "descending"), (by_name, "ascending")):
        expected = [state if index == sort["column"] else None for index in range(len(sort["states"]))]
        assert sort["states"] == expected
    assert desk["focus"]


def test_run_page_renders(browser, folder, tmp_path):
    report, console = visit(browser, folder / "runs/m0-seed0-0a1b2c3d/index.html", "dark", tmp_path)
    assert console == []
    assert report["phone"]["overflow"] <= 0
    assert len(report["phone"]["plots"]) == 10
    assert all(min(plot["width"], plot["height"], plot["drawn"]) > 100 for plot in report["desk"]["plots"])


@pytest.mark.parametrize("of", ["comparison", "run"])
def test_matrices_are_zoomed(browser, tmp_path, of):
    """One level at a time, on a phone too, where wide tables scroll by themselves."""
    counts = np.diag(np.full(40, 9)) + np.roll(np.eye(40, dtype=int), 1, 1)
    run = tmp_path / "runs/a"
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps({"status": "finished", "test": {"confusion": counts.tolist()}}))
    rows = [{"folder": "runs/a", "seed": 0, "status": "finished"}]
    methods = [{"name": name, "runs": rows, "difference": None} for name in ("erm", "mixup")]
    (tmp_path / "results.json").write_text(json.dumps({"schema": 1, "methods": methods}))
    page = write_comparison(tmp_path) if of == "comparison" else write_run(run)
    report, console = visit(browser, page, "light", tmp_path)
    assert console == []
    count, levels = (2, 4) if of == "comparison" else (1, 3)
    for device in ("phone", "desk"):
        zoomed = report[device]["zoomed"]
        assert [len(zoom) for zoom in zoomed] == [levels] * count
        for zoom in zoomed:
            assert [turn["levels"] for turn in zoom] == np.eye(levels, dtype=bool).tolist()
            assert all(turn["overflow"] <= 0 and turn["height"] > 150 for turn in zoom)
