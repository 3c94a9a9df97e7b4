"""What makes orders good: features against plain Python, planted effects found, none where there are none."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from itertools import permutations as all_permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from tests.lab.test_ordering_search import SMALL
from torch import Tensor, nn
from torch.func import functional_call

from lessonplan.errors import DataError, LessonplanError
from lessonplan.lab.ordering import explain_orders, search_orderings
from lessonplan.lab.ordering.explain.batches import BatchFacts, batch_facts
from lessonplan.lab.ordering.explain.contrasts import contrast_features
from lessonplan.lab.ordering.explain.features import (
    EXPANSION,
    Reach,
    expanded_loss,
    feature_words,
    order_features,
)
from lessonplan.lab.ordering.explain.groups import Group, make_group, ranked, standardised, tenths
from lessonplan.lab.ordering.explain.prediction import foretell_ranks
from lessonplan.lab.ordering.explain.stored import Agreement, grow_again, open_search
from lessonplan.order.perfect import Engine

LR = 0.05


def smooth_engine(optimizer: Callable[..., torch.optim.Optimizer] | None = None) -> Engine:
    """A network without corners, so that expansions hold, on 12 samples of two classes."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, y = torch.randn(12, 4).double(), torch.arange(12) % 2
    x_eval, y_eval = torch.randn(700, 4).double(), torch.randint(2, (700,))
    return Engine(
        model, x, y, x_eval, y_eval, optimizer=optimizer or (lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9))
    )


BATCHES = (torch.tensor([0, 2, 5]), torch.tensor([1, 3, 7]), torch.tensor([4, 6, 8]), torch.tensor([9, 10, 11]))
ORDERS = np.array(list(all_permutations(range(4))))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return smooth_engine()


@pytest.fixture(scope="module")
def facts(engine: Engine) -> BatchFacts:
    return batch_facts(engine, engine.start(), BATCHES)


def hand_gradient(engine: Engine, x: Tensor, y: Tensor) -> tuple[float, Tensor]:
    model = engine.network
    model.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_facts_are_those_of_plain_backward_passes(engine: Engine, facts: BatchFacts) -> None:
    found = [hand_gradient(engine, engine.x[b], engine.y[b]) for b in BATCHES]
    gradients = [g for _, g in found]
    mean = hand_gradient(engine, engine.x, engine.y)[1]
    outside = hand_gradient(engine, engine.x_eval, engine.y_eval)[1]
    for i, g in enumerate(gradients):
        assert facts.loss[i] == pytest.approx(found[i][0])
        assert facts.norms[i] == pytest.approx(g.norm().item())
        assert facts.agreement[i] == pytest.approx(F.cosine_similarity(g, mean, dim=0).item())
        assert facts.evaluation.along[i] == pytest.approx((g @ outside).item())
        for j, other in enumerate(gradients):
            assert facts.cosines[i, j] == pytest.approx(F.cosine_similarity(g, other, dim=0).item())


def test_gradients_of_a_linear_network_by_hand() -> None:
    """Cross-entropy of ``x W'`` has the gradient ``(softmax - onehot)' x / n``, here without autograd."""
    model = nn.Linear(3, 2, bias=False)
    x, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 1, 0, 1, 0])
    engine = Engine(model, x, y, x, y, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    batches = (torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5]))
    facts = batch_facts(engine, engine.start(), batches)
    weight = model.weight.detach().double().numpy()
    gradients = []
    for batch in batches:
        rows, labels = x[batch].double().numpy(), y[batch].numpy()
        logits = rows @ weight.T
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        shares[np.arange(2), labels] -= 1
        gradients.append((shares.T @ rows / 2).ravel())
    for i, g in enumerate(gradients):
        for j, h in enumerate(gradients):
            assert facts.cosines[i, j] == pytest.approx(g @ h / np.linalg.norm(g) / np.linalg.norm(h), abs=1e-6)
    assert facts.features is not None
    assert facts.features == pytest.approx(facts.pixels, abs=1e-6)  # what enters its only layer is the sample


def test_likeness_and_classes_by_hand(engine: Engine, facts: BatchFacts) -> None:
    x = engine.x.numpy()
    hidden = engine.network[:2](engine.x).detach().numpy()
    assert facts.features is not None
    for i, one in enumerate(BATCHES):
        ones = int(engine.y[one].sum())
        assert facts.classes[i].tolist() == pytest.approx([1 - ones / 3, ones / 3])
        assert facts.unevenness[i] == pytest.approx(abs(ones / 3 - 0.5))
        for j, other in enumerate(BATCHES):
            assert facts.class_changes[i, j] == pytest.approx(abs(ones - int(engine.y[other].sum())) / 3)
            for matrix, values in ((facts.pixels, x), (facts.features, hidden)):
                a, b = (values[rows.numpy()].mean(0) - values.mean(0) for rows in (one, other))
                assert matrix[i, j] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def brute_force(order: list[int], facts: BatchFacts) -> dict[str, float]:
    """Every feature of one order but the expansion, one place after the other."""
    n, found = len(order), {}
    scalars = {
        "loss": facts.loss,
        "norm": facts.norms,
        "agreement": facts.agreement,
        "unevenness": facts.unevenness,
        "class": facts.classes[:, 1],
    }
    for name, values in scalars.items():
        found[f"{name} first"], found[f"{name} last"] = values[order[0]], values[order[-1]]
        pairs = [(s, t) for t in range(n) for s in range(t)]
        found[f"{name} rising"] = sum(float(np.sign(values[order[t]] - values[order[s]])) for s, t in pairs) / len(
            pairs
        )
    found["hardest place"] = order.index(int(np.argmax(facts.loss))) / (n - 1)
    assert facts.features is not None
    matrices = {
        "class change": facts.class_changes,
        "pixel likeness": facts.pixels,
        "feature likeness": facts.features,
        "gradient cosine": facts.cosines,
    }
    for name, matrix in matrices.items():
        found[name] = float(np.mean([matrix[a, b] for a, b in pairwise(order)]))
    found["first gradient cosine"] = facts.cosines[order[0], order[1]]
    found["last gradient cosine"] = facts.cosines[order[-2], order[-1]]
    return found


def test_features_are_those_of_one_order_at_a_time(facts: BatchFacts) -> None:
    found = order_features(ORDERS, facts, None, LR)
    assert set(found) == set(brute_force([0, 1, 2, 3], facts))
    for row, order in enumerate(ORDERS.tolist()):
        for name, value in brute_force(order, facts).items():
            assert found[name][row] == pytest.approx(value), (name, order)
        tau = stats.kendalltau(range(4), facts.loss[order]).statistic
        assert found["loss rising"][row] == pytest.approx(tau)
    assert set(feature_words(tuple(found), "1")) == set(found)


def test_the_third_class_leaves_no_share_of_one(engine: Engine) -> None:
    other = smooth_engine()
    other.network[2] = nn.Linear(5, 3).double()
    other.y = torch.arange(12) % 3
    other = Engine(other.network, other.x, other.y, other.x, other.y, optimizer=other.optimizer)
    found = order_features(ORDERS, batch_facts(other, other.start(), BATCHES), None, LR)
    assert not any(name.startswith("class ") and name != "class change" for name in found)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.9, True)])
def test_the_expansion_is_the_loss_of_small_steps(momentum: float, nesterov: bool) -> None:
    """What second order leaves over falls with the cube of the learning rate, for training and evaluation loss."""
    left: dict[str, list[float]] = {"training": [], "evaluation": []}
    for lr in (0.02, 0.01):
        engine = smooth_engine(lambda p, lr=lr: torch.optim.SGD(p, lr=lr, momentum=momentum, nesterov=nesterov))
        facts = batch_facts(engine, engine.start(), BATCHES)
        assert facts.evaluation.curved is None
        ends = engine.replay(engine.start(), BATCHES, torch.from_numpy(ORDERS))
        reach = Reach(momentum, nesterov)
        before = F.cross_entropy(engine.network(engine.x), engine.y).item()
        after = [
            F.cross_entropy(functional_call(engine.network, ends.rows(i).params, (engine.x,)), engine.y).item()
            for i in range(len(ORDERS))
        ]
        found = expanded_loss(ORDERS, facts.training, reach, lr)
        left["training"].append(float(np.abs(np.array(after) - before - found[EXPANSION]).max()))
        outside, _ = engine.train(engine.start(), BATCHES, torch.from_numpy(ORDERS))
        # without its curvature the evaluation loss is known up to what all orders share, nearly
        rest = outside.numpy() - expanded_loss(ORDERS, facts.evaluation, reach, lr)[EXPANSION]
        left["evaluation"].append(float(np.ptp(rest)))
    assert left["training"][0] < 8.8 * left["training"][1]
    assert left["training"][0] > 7.2 * left["training"][1]
    assert left["evaluation"][0] > (7 if momentum == 0 else 3.4) * left["evaluation"][1]


def test_without_momentum_only_interference_is_left(facts: BatchFacts) -> None:
    group = make_group(1, 0, ORDERS, np.arange(24.0), order_features(ORDERS, facts, Reach(0.0), LR))
    assert group is not None
    assert "descent" not in group.features
    assert abs(np.corrcoef(group.features["interference"], group.features[EXPANSION])[0, 1]) == pytest.approx(1)


def test_groups_without_anything_to_compare() -> None:
    assert make_group(1, 0, ORDERS, np.full(24, 0.3), {}) is None
    assert make_group(1, 0, ORDERS[:2], np.array([1.0, 2.0]), {}) is None
    assert standardised(np.array([1.0, np.nan])) is None
    assert standardised(np.full(5, 0.1)) is None
    group = make_group(1, 0, ORDERS[:3], np.array([1.0, np.nan, 0.5]), {})
    assert group is not None
    assert group.ranks.tolist() == [0.0, 0.5, -0.5]  # a run that diverged is the worst


@pytest.mark.parametrize("count", [3, 6, 24, 120])
def test_tenths_are_apart(count: int) -> None:
    loss = np.random.default_rng(count).permutation(count).astype(float)
    best, middle, worst = (loss[rows] for rows in tenths(loss))
    assert len(best) == len(middle) == len(worst) == max(1, round(count / 10))
    assert best.max() < middle.min() <= np.median(loss) <= middle.max() + 1 < worst.min() + 1
    assert (best.min(), worst.max()) == (0, count - 1)


def made_up(seed: int, planted: float, epochs: int = 8, starts: int = 3) -> list[Group]:
    """Trees whose loss is ``planted`` times one feature of five and noise that an epoch's trees share by half."""
    rng = np.random.default_rng(seed)
    groups = []
    orders = np.array(list(all_permutations(range(4))))
    for epoch in range(1, epochs + 1):
        shared = rng.standard_normal(24)
        features = {f"f{k}": rng.standard_normal(24) for k in range(5)}
        for start in range(starts):
            noise = (shared + rng.standard_normal(24)) / np.sqrt(2)
            group = make_group(epoch, start, orders, planted * features["f2"] + noise, features)
            assert group is not None
            groups.append(group)
    return groups


NAMES = [f"f{k}" for k in range(5)]


def decided(groups: list[Group]) -> set[str]:
    return {
        row["name"]
        for row in contrast_features(groups, NAMES)
        if any(row[key]["verdict"] != "undecided" for key in ("best_minus_worst", "best_minus_middle"))
    }


def test_a_planted_effect_is_found() -> None:
    groups = made_up(0, planted=1.5)
    rows = contrast_features(groups, NAMES)
    assert rows[0]["name"] == "f2"
    assert rows[0]["best_minus_worst"]["verdict"] == "worse"  # less of it in the best
    assert rows[0]["best"] < rows[0]["middle"] < rows[0]["worst"]
    assert (rows[0]["rank_correlation"] > 0.5, rows[0]["same_sign"]) == (True, 1.0)
    assert decided(groups) == {"f2"}
    found = {row["name"]: row for row in foretell_ranks(groups, NAMES)}
    for name in ("ridge", "one feature"):
        assert found[name]["spearman"]["verdict"] == "better"
        assert found[name]["spearman"]["mean"] > 0.6
        assert found[name]["chosen"]["mean"] < 0.25
        assert found[name]["r2"] > 0.3
    assert found["other starts"]["spearman"]["mean"] > 0.6
    assert "expansion" not in found  # nobody knows it here
    assert "evaluation" not in found


@pytest.mark.slow
def test_shuffled_losses_show_nothing() -> None:
    """Of 40 made-up searches without an effect few show one: the level allows 2, and 6 once in a hundred times."""
    searches = [made_up(1000 + seed, planted=0.0) for seed in range(40)]
    assert sum(bool(decided(groups)) for groups in searches) <= 5
    better = [
        {row["name"] for row in foretell_ranks(groups, NAMES) if row["spearman"]["verdict"] == "better"}
        for groups in searches[:8]
    ]
    assert sum(bool({"ridge", "boosting", "one feature"} & names) for names in better) <= 2


def test_trees_of_an_epoch_are_one_observation() -> None:
    """Copies of the same trees decide nothing that the trees themselves do not."""
    once, copied = made_up(5, planted=0.3, starts=1), []
    for start in range(12):
        copied += [Group(g.epoch, start, g.orders, g.loss, g.features) for g in once]
    for one, many in zip(contrast_features(once, NAMES), contrast_features(copied, NAMES), strict=True):
        assert one["name"] == many["name"]
        assert one["best_minus_worst"]["p"] == pytest.approx(many["best_minus_worst"]["p"])
        assert one["best_minus_worst"]["ci_t"] == pytest.approx(many["best_minus_worst"]["ci_t"])


def test_ridge_is_that_of_scikit_learn() -> None:
    """A held-out epoch's ranks are those that scikit-learn's ridge foretells with one of the strengths."""
    from sklearn.linear_model import Ridge

    from lessonplan.lab.ordering.explain.prediction import _STRENGTHS, _ridge

    groups = made_up(2, planted=0.8, starts=2)
    foretold = _ridge(groups, NAMES, 0)
    rows = {name: np.concatenate([g.features[name] for g in groups if g.epoch != 1]) for name in NAMES}
    x, y = np.stack(list(rows.values()), 1), np.concatenate([g.ranks for g in groups if g.epoch != 1])
    held = np.stack([groups[0].features[name] for name in NAMES], 1)
    known = [Ridge(strength * len(x), fit_intercept=False).fit(x, y).predict(held) for strength in _STRENGTHS]
    assert foretold[0] is not None
    assert min(float(np.abs(foretold[0] - other).max()) for other in known) < 1e-9


def test_ways_that_know_the_tree_itself() -> None:
    """Losses that are a sum over places are foretold by places; starts that agree, by each other."""
    rng = np.random.default_rng(0)
    orders = np.array(list(all_permutations(range(5))))
    groups = []
    for epoch in (1, 2, 3):
        worth = rng.standard_normal((5, 5))
        loss = worth[np.arange(5), orders].sum(1)
        for start in (0, 1):
            group = make_group(epoch, start, orders, loss, {"noise": rng.standard_normal(120)}, oracle=3 * loss)
            assert group is not None
            groups.append(group)
    found = {row["name"]: row for row in foretell_ranks(groups, ["noise"])}
    assert found["other starts"]["spearman"]["mean"] == pytest.approx(1)
    assert found["other starts"]["chosen"]["mean"] == 0
    assert found["evaluation"]["spearman"]["mean"] == pytest.approx(1)
    assert found["places"]["spearman"]["mean"] > 0.97
    assert abs(found["ridge"]["spearman"]["mean"]) < 0.3
    assert found["ridge"]["transfers"]
    assert not found["places"]["transfers"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "out"
    search_orderings("digits", out=folder, epochs=4, jobs=1, **{**SMALL, "per_class": 8})
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_starts_come_out_again(finished: Path) -> None:
    """Every loss of every tree, from the folder alone, not the few that are checked."""
    search = open_search(finished)
    agreement = Agreement()
    keys = []
    for grown in grow_again(search, agreement):
        loss, _ = search.engine.train(grown.start, grown.batches, grown.tree.orders)
        assert [f"{value:.7g}" for value in loss.tolist()] == [f"{v:.7g}" for v in grown.tree.loss.tolist()]
        keys.append((grown.tree.epoch, grown.tree.start))
    assert keys == sorted(search.trees)
    assert len(keys) == 1 + 3 * 2
    assert agreement.agreeing == len(agreement.differences) == 7 * 5
    assert agreement.to_json()["largest_difference"] < 1e-6


@pytest.mark.slow
def test_a_search_is_explained_in_its_folder(folder: Path) -> None:
    record = explain_orders(folder)
    assert record == json.loads((folder / "explanation.json").read_text())
    assert (record["runs"], record["trees"], record["epochs"]) == (7 * 24, 7, [1, 2, 3, 4])
    names = {row["name"] for row in record["features"]}
    assert {"descent", EXPANSION, "gradient cosine", "loss first", "class last"} <= names
    assert {"ridge", "boosting", "expansion", "evaluation", "other starts"} <= {
        r["name"] for r in record["foretold"]
    }
    page = (folder / "index.html").read_text()
    assert 'id="good"' in page
    assert all(f'<th scope="row">{name}<small>' in page for name in names)
    again = explain_orders(folder)
    assert {**again, "seconds": 0} == {**record, "seconds": 0}
    search_orderings("digits", out=folder, epochs=5, jobs=1, **{**SMALL, "per_class": 8})
    assert "Made of 168 of the 216 runs" in (folder / "index.html").read_text()


def test_the_evaluation_loss_itself_foretells_it(tmp_path: Path) -> None:
    """In a real search of small steps the expansion of what is measured must come close to it."""
    search_orderings("digits", out=tmp_path, epochs=2, jobs=1, **{**SMALL, "per_class": 8, "lr": 3e-4})
    found = {row["name"]: row["spearman"]["mean"] for row in explain_orders(tmp_path)["foretold"]}
    assert found["evaluation"] > 0.9


def test_an_unfinished_epoch_and_adam(tmp_path: Path) -> None:
    options: dict[str, Any] = {**SMALL, "lr": 0.01, "optimizer": "adam", "redraw": False}
    search_orderings("digits", out=tmp_path, epochs=3, jobs=1, **options)
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    (tmp_path / "runs.csv").write_text("\n".join(line for line in lines if not line.startswith("3,1,")) + "\n")
    record = explain_orders(tmp_path)
    assert (record["runs"], record["trees"]) == (24, 4)
    assert not {"descent", EXPANSION} & {row["name"] for row in record["features"]}
    assert not record["new_split_each_epoch"]
    assert "All epochs have the same batches" in (tmp_path / "index.html").read_text()


def changed(folder: Path, change: Callable[[dict[str, str]], Any]) -> None:
    with (folder / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with (folder / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_what_does_not_come_out_again_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(row: dict[str, str]) -> None:
        if (row["epoch"], row["start"]) == ("3", "1"):
            row["loss"] = f"{float(row['loss']) * 1.01:.9g}"

    changed(folder, worse)
    with pytest.raises(
        DataError, match=r"epoch 3, start 2: an order that is trained again ends with loss .* stored is"
    ):
        explain_orders(folder)
    assert not (folder / "explanation.json").exists()


def test_other_code_is_refused(folder: Path) -> None:
    text = (folder / "config.yaml").read_text()
    assert "lr: 0.1" in text
    (folder / "config.yaml").write_text(text.replace("lr: 0.1", "lr: 0.11"))
    with pytest.raises(DataError, match="epoch 1, start 1: an order that is trained again"):
        explain_orders(folder)


def damaged(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.yaml").write_text(text) and None


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / "config.yaml").read_text()
        assert old in text
        (folder / "config.yaml").write_text(text.replace(old, new))

    return change


MISTAKES: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda folder: shutil.rmtree(folder),
        "holds no search for orders: give the folder that lessonplan order wrote",
    ),
    (lambda folder: (folder / "runs.csv").unlink(), "holds no search for orders"),
    (damaged("a: 1\n"), "holds no search for orders"),
    (damaged("[1\n"), "is not valid YAML"),
    (replaced("format: 1", "format: 0"), "another version of lessonplan"),
    (replaced("per_class: 8", "per_class: 7"), "digits gives other samples"),
    (replaced("survivors: 2", "survivors: many"), "is damaged"),
    (replaced("data: digits", "data: folder:nowhere-at-all"), "--data says where they lie"),
    (lambda folder: changed(folder, lambda row: row.update(epoch="9")), "has no runs of the first epoch"),
    (lambda folder: changed(folder, lambda row: row.update(permutation="0-1-2")), "orders of 3 batches"),
]


@pytest.mark.parametrize(("change", "said"), MISTAKES)
def test_mistakes_are_one_sentence(folder: Path, change: Callable[[Path], Any], said: str) -> None:
    change(folder)
    with pytest.raises(LessonplanError) as raised:
        explain_orders(folder)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_data_that_moved(folder: Path) -> None:
    replaced("data: digits", "data: folder:nowhere-at-all")(folder)
    assert len(open_search(folder, data="digits").trees) == 7


def own_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_a_network_of_ones_own_is_given_again(tmp_path: Path) -> None:
    search_orderings("digits", out=tmp_path, epochs=1, jobs=1, model=own_network, **SMALL)
    agreement = Agreement()
    assert len(list(grow_again(open_search(tmp_path, model=own_network), agreement))) == 1
    assert agreement.agreeing == 5
    with pytest.raises(LessonplanError, match="own_network"):
        open_search(tmp_path)


def test_equal_losses_separate_nothing(tmp_path: Path) -> None:
    """Orders that all end with the same loss: a rate so small that no loss moves."""
    search_orderings("digits", out=tmp_path, epochs=1, jobs=1, **{**SMALL, "lr": 1e-30, "survivors": 1})
    with pytest.raises(DataError, match="nothing separates them"):
        explain_orders(tmp_path)


def test_ranks_of_ties_are_their_mean() -> None:
    assert ranked(np.array([1.0, 1.0, 2.0])).tolist() == [-0.25, -0.25, 0.5]
