"""Puzzle Mix drawn step by step, and mixes that ask a network in pictures."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import lessonplan as lp
from lessonplan.cli import main
from lessonplan.errors import ConfigError
from lessonplan.lab.examples import mixed_images
from lessonplan.lab.explanation import puzzle_steps, trained_network
from lessonplan.mix import parse_mix


@pytest.fixture(scope="module")
def data():
    return lp.data.load("digits", seed=0, val_fraction=0.2)


def titles(figure):
    return [text.get_text() for text in figure.texts]


def test_a_row_an_image_with_every_step(data):
    figure = puzzle_steps(parse_mix("puzzle:until=50%"), data, count=3)
    assert len(figure.images) == len(figure.texts) == 3 * 8
    assert titles(figure)[:2] == ["first", "second"]
    assert any(" + " in t.replace("\n", " ") or t in data.class_names for t in titles(figure)[7::8])


def test_the_drawn_result_is_what_a_call_gives(data):
    figure = puzzle_steps(parse_mix("puzzle:seed=4"), data, count=4, seed=1)
    again = puzzle_steps(parse_mix("puzzle:seed=4"), data, count=4, seed=1)
    for one, other in zip(figure.images, again.images, strict=True):
        assert (one.get_array() == other.get_array()).all()
    assert figure.images[4].get_array().max() > 0


@pytest.mark.parametrize("text", ["puzzle", "manifold", "puzzle|cutmix", "manifold:p=0.5"])
def test_mixes_that_ask_a_network_are_drawn_with_an_untrained_one(data, text):
    assert len(mixed_images(parse_mix(text), data, count=3).images) == 3


def test_only_a_puzzle_can_be_explained(data):
    for mix in (None, parse_mix("cutmix")):
        with pytest.raises(ConfigError, match="only puzzle can be explained"):
            puzzle_steps(mix, data)


def test_the_command_takes_a_runs_network(tmp_path, data, capsys):
    lp.fit("fcnet-8", "digits", budget="1 steps", out=tmp_path / "run", threads=1)
    out = tmp_path / "steps.png"
    options = ["preview", "--mix", "puzzle", "--explain", "--count", "2", "--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as left:
        main([*options, "--out", str(out)])
    assert not left.value.code
    assert out.stat().st_size > 1000
    weights = trained_network(tmp_path / "run", data).state_dict()
    assert all(torch.isfinite(v).all() for v in weights.values())
    other = dataclasses.replace(data, shape=(1, 9, 9))
    with pytest.raises(ConfigError, match="was trained on 10 classes of shape"):
        trained_network(tmp_path / "run", other)
