"""Accelerate, the real one: a mix is stored and taken back with the rest, each process' own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from tests.integrations.examples import example

pytest.importorskip("accelerate", reason="pip install 'lessonplan[accelerate]'")


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_the_example_resumes_bit_for_bit(tmp_path, monkeypatch):
    main = example("accelerate_loop").main
    whole = main(3, tmp_path / "whole")
    main(3, tmp_path / "part", stop=2)
    assert _same(main(3, tmp_path / "part", resume=True), whole)
    main(3, tmp_path / "other", stop=2)
    from lessonplan.integrations import accelerate as ours

    monkeypatch.setattr(ours.MixState, "load_state_dict", lambda self, state: None)
    assert not _same(main(3, tmp_path / "other", resume=True), whole)


SCRIPT = """
import sys, torch
import lessonplan as lp
from accelerate import Accelerator
from lessonplan.integrations.accelerate import register
from lessonplan.leaving import leave

accelerator = Accelerator(cpu=True)
mix = lp.mix.Mixup(num_classes=2)
register(accelerator, mix)
x, y = torch.arange(64.0).view(64, 1), torch.arange(64) % 2
drawn = [mix(x, y)[0] for _ in range(2)]
accelerator.save_state(sys.argv[1])
accelerator.wait_for_everyone()  # the first process writes for all
wanted = mix(x, y)[0]
mix.reseed(5)
accelerator.load_state(sys.argv[1])
assert torch.equal(mix(x, y)[0], wanted)
both = accelerator.gather(wanted).view(2, 64)
assert not torch.equal(both[0], both[1])
if accelerator.is_main_process:
    print("each goes on with its own")
leave(0)  # gloo's threads abort a process now and then that takes itself apart
"""


@pytest.mark.slow
def test_each_process_goes_on_with_its_own_draws(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(SCRIPT))
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    ran = subprocess.run(
        [*start, str(script), str(tmp_path / "state")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "each goes on with its own" in ran.stdout
