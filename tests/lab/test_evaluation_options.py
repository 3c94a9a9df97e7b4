"""What can be asked of an evaluation, as text and in recipes."""

from __future__ import annotations

import pytest
import torch

from lessonplan.errors import ConfigError
from lessonplan.evaluation.attacks import KINDS, read_attack, split_attacks, with_margin
from lessonplan.lab.evaluation import Evaluation, TestTime
from lessonplan.lab.recipe import Part


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"eps": 8}, "did you mean 8/255 = 0.0314"),
        ({"eps": "8"}, "did you mean 8/255 = 0.0314"),
        ({"eps": 0}, "above 0"),
        ({"eps": "eight"}, "write 8/255 or 0.03"),
        ({"eps": "8/0"}, "write 8/255 or 0.03"),
        ({"attacks": ("fgms",)}, "did you mean 'fgsm'"),
        ({"attacks": ("pgd:restart=3",)}, "did you mean 'restarts'"),
        ({"attacks": ("pgd:steps=many",)}, "a whole number"),
        ({"attacks": ("pgd", "pgd:steps=40")}, "given twice"),
        ({"mixup_inference": True}, "give ttsa too"),
        ({"limit": 0}, "limit=0"),
        ({"on": "tset"}, "on='tset'"),
        ({"limits": 3}, "did you mean 'limit'"),
    ],
)
def test_what_cannot_be_asked_for(given, said) -> None:
    with pytest.raises(ConfigError, match=said):
        Evaluation.make(**given)


def test_eps_is_read_as_people_write_it() -> None:
    assert Evaluation.make(eps="8/255").eps == 8 / 255
    assert Evaluation.make(eps="0.05").eps == 0.05


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k=1", "ttsa:k=1"),
        ("copis=3", "did you mean 'copies'"),
        ("4", "write option=value"),
        ("k=x", "a whole number"),
    ],
)
def test_test_time_options_that_cannot_be_read(text, said) -> None:
    with pytest.raises(ConfigError, match=said):
        TestTime.parse(text)


def test_test_time_options() -> None:
    assert TestTime.parse("k=2, copies=8,weight=2.5,of=logits") == TestTime(k=2, copies=8, weight=2.5, of="logits")


def test_options_stay_with_their_attack() -> None:
    assert split_attacks("fgsm, pgd:steps=40,restarts=5,mim") == ["fgsm", "pgd:steps=40,restarts=5", "mim"]


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"autoattack"}))
def test_every_attack_is_done_as_its_options_say(name) -> None:
    """On a linear network the sign of the gradient is known, and with it where every step leads."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    x, y = torch.full((3, 1, 1, 2), 0.5), torch.zeros(3, dtype=torch.long)
    text = name if name == "fgsm" else f"{name}:steps=3,step_size=0.01"
    reached = read_attack(text).attack(torch.Generator().manual_seed(0))(model, x, y, 0.02).images
    wanted = torch.tensor([0.48, 0.52]).expand(3, 2)
    if name == "pgd":  # somewhere between, from a random start
        assert bool(((reached.flatten(1) - 0.5).sign() == (wanted - 0.5).sign()).all())
        reached = (
            read_attack(f"{text},restarts=2").attack(torch.Generator().manual_seed(0))(model, x, y, 0.02).images
        )
    else:
        assert torch.allclose(reached.flatten(1), wanted)


def test_the_margin_beside() -> None:
    assert with_margin(read_attack("pgd:steps=7")) == read_attack("pgd:steps=7,loss=margin")
    assert with_margin(read_attack("bim:loss=margin")) is None
    assert with_margin(read_attack("autoattack")) is None


def test_a_recipe_says_what_follows_training() -> None:
    part = Part(budget="1ep", evaluate={"attacks": ["fgsm"], "eps": "2/255", "ttsa": {"k": 2}})
    assert part.evaluate is not None
    assert (part.evaluate.eps, part.evaluate.ttsa) == (2 / 255, TestTime(k=2))
    with pytest.raises(ValueError, match="did you mean 'fgsm'"):
        Part(budget="1ep", evaluate={"attacks": ["fgms"]})
