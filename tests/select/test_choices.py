"""How often each sample was chosen: against counts made one by one, and exactly as before after a resume."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lessonplan as lp
from lessonplan.select.choices import Choices
from lessonplan.supply.epoch import Supply


@given(st.lists(st.lists(st.integers(0, 22), max_size=9), max_size=12))
def test_counts_and_concentration(batches):
    choices, counted = Choices(23), Counter(index for batch in batches for index in batch)
    for batch in batches:
        choices.add(torch.tensor(batch, dtype=torch.int64))
    counts = [counted[i] for i in range(23)]
    assert choices.counts.tolist() == counts
    found, total = choices.concentration(), sum(counts)
    if not total:
        assert set(found.values()) == {None}
        return
    # The Gini coefficient by its definition: half of the relative mean absolute difference.
    apart = np.abs(np.subtract.outer(counts, counts)).mean()
    assert found["gini"] == pytest.approx(apart / (2 * np.mean(counts)), abs=1e-9)
    assert found["top_tenth"] == pytest.approx(sum(sorted(counts)[-3:]) / total)
    assert found["never"] == pytest.approx(sum(count == 0 for count in counts) / 23)


def test_result_by_class_and_histogram():
    choices, labels = Choices(6), torch.tensor([0, 0, 1, 1, 1, 3])
    choices.add(torch.tensor([0] * 100 + [2, 3, 5]))
    result = choices.result(labels, ["a", "b", "c", "d"])
    assert result["by_class"] == {"a": 50.0, "b": pytest.approx(2 / 3), "c": None, "d": 1.0}
    assert (result["samples"], result["choices"]) == (6, 103)
    histogram = result["histogram"]
    assert len(histogram) <= 40
    assert sum(number for *_, number in histogram) == 6
    for low, high, number in histogram:
        assert number == sum(low <= count <= high for count in choices.counts.tolist())


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 255, (60, 8, 8), generator=generator).to(torch.uint8)
    return lp.data.load((x, torch.arange(60) % 3), test=(x[:9], torch.arange(9) % 3), augment="none")


SELECTIONS = (
    "accuracy:margin=0.5 >> topk:0.5",
    "topk:0.3 >> epochwise",
    "accuracy >> batchwise:overflow=discard,raw_batch_size=run",
    "weighted:0.5",
)


@pytest.mark.parametrize("select", SELECTIONS)
def test_a_run_counts_what_its_updates_saw(data, select):
    seen: Counter[int] = Counter()

    class Watch(lp.Callback):
        def on_train_start(self, trainer):
            observe = trainer.supply.observe

            def watching(batch, step):
                seen.update(batch.indices.tolist())
                observe(batch, step)

            trainer.supply.observe = watching

    run = lp.fit("fcnet-8", data, f"select:{select}", "4ep", batch_size=8, threads=1, callbacks=[Watch()])
    result = run.result["choices"]
    assert result["choices"] == sum(seen.values()) > 0
    assert result["never"] == pytest.approx(1 - len(seen) / len(data.train))
    assert run.history[-1]["select"]["choices"] == {k: result[k] for k in ("never", "top_tenth", "gini")}
    labels = data.train.labels.tolist()
    for label, mean in enumerate(result["by_class"].values()):
        of_class = [seen[i] for i in range(len(labels)) if labels[i] == label]
        assert mean == pytest.approx(np.mean(of_class))


def test_no_selection_counts_nothing(data):
    assert "choices" not in lp.fit("fcnet-8", data, None, "1ep", batch_size=8, threads=1).result


def test_counts_of_before_are_not_made_up(data):
    """A run that was begun before choices were counted goes on without a count."""
    parts = {"data": data.train, "seed": 0, "select": lp.Plan.from_texts(select="random:0.5").select}
    old = Supply(**parts)
    state = {key: value for key, value in old.state_dict().items() if key != "choices"}
    new = Supply(**parts)
    new.load_state_dict(state)
    assert new.choices is None
    assert "choices" not in new.describe()["select"]
