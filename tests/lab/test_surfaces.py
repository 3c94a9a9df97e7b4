"""The picture of predictions on a plane: each point of its grid is what the run's classifier says there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.lab.recipe import Part
from lessonplan.lab.surfaces import points_of, surface, surfaces

OPTIONS = {"per_class": 30, "val_fraction": 0}


def test_a_surface_is_what_the_classifier_says(tmp_path):
    data = lp.data.load("table:moons", seed=0, **OPTIONS)
    lp.fit("fcnet-8", data, None, "5ep", seed=0, out=tmp_path / "runs/erm", batch_size=10, threads=1)
    rows, labels = points_of(data)
    assert rows.shape == (60, 2)
    assert rows.abs().max() < 4  # as they are in the data, not normalised
    assert rows[labels == 0][:, 1].mean() > rows[labels == 1][:, 1].mean()  # the upper moon
    x, y, p = surface(tmp_path / "runs/erm", rows)
    classifier = lp.load(tmp_path / "runs/erm")
    for i, j in ((0, 0), (3, 77), (119, 5), (60, 60)):
        at = torch.tensor([[float(x[j]), float(y[i])]])
        assert p[i, j] == pytest.approx(classifier.predict(at)[0, 1].item(), abs=1e-5)
    assert x[0] < rows[:, 0].min() < rows[:, 0].max() < x[-1]
    assert np.ptp(p) > 0.1
    part = Part(data="table:moons", budget="5ep", data_options=OPTIONS)
    run = {"seed": 0, "status": "finished", "folder": "runs/erm"}
    methods = [{"name": "erm", "runs": [run]}, {"name": "late", "runs": [{**run, "status": "failed"}]}]
    drawn = surfaces(methods, part, tmp_path)
    assert drawn is not None
    assert [axes.get_title() for axes in drawn[0].axes] == ["erm", ""]
    assert surfaces(methods[1:], part, tmp_path) is None


def test_no_plane_is_said():
    with pytest.raises(ConfigError, match="2 features and 2 classes"):
        points_of(lp.data.load("table:iris", seed=0))
