"""The example in plain PyTorch runs, and goes on from its checkpoint bit for bit."""

from __future__ import annotations

import pytest
import torch
from tests.integrations.examples import example

from lessonplan.errors import ConfigError
from lessonplan.integrations.packages import need


def test_it_goes_on_where_it_was(tmp_path, monkeypatch):
    module = example("plain_pytorch")
    file = tmp_path / "loop.pt"
    wanted = module.main(3, tmp_path / "whole.pt", per_class=4)
    saved, count = torch.save, []

    def stopping(state, where):
        saved(state, where)
        count.append(where)
        if len(count) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        module.main(3, file, per_class=4)
    monkeypatch.setattr(torch, "save", saved)
    assert module.main(3, file, per_class=4) == wanted
    whole, again = (torch.load(f, weights_only=True)["model"] for f in (tmp_path / "whole.pt", file))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[lightning\]'"):
        need("a_package_that_nobody_has.pytorch", "lightning")
