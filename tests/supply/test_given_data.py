"""What selection and ordering take as samples: tensors, data sets, DataLoaders; all give the same batches."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.supply.ordered_loader import OrderedLoader
from lessonplan.supply.tensors import as_samples

X, Y = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3


class Own(Dataset):
    """Somebody's data set."""

    def __getitem__(self, index):
        return X[index], int(Y[index])

    def __len__(self):
        return 60


def _model():
    model = torch.nn.Linear(5, 3)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    return model


def _collate(samples):
    return default_collate(samples)


GIVEN = {
    "TensorDataset": lambda: TensorDataset(X, Y),
    "Dataset": Own,
    "DataLoader": lambda: DataLoader(Own(), batch_size=10, shuffle=True),
    "DataLoader of tensors": lambda: DataLoader(TensorDataset(X, Y), batch_size=10),
    "DataLoader with workers": lambda: DataLoader(
        Own(), batch_size=10, num_workers=1, collate_fn=_collate, multiprocessing_context="fork"
    ),
}


@pytest.mark.parametrize(
    "plan", ["none", "select:topk:0.5", "select:topk:0.5 >> epochwise", "order:multi-attempt:k=2"]
)
@pytest.mark.parametrize("name", GIVEN)
def test_batches_are_those_of_tensors(name, plan):
    def batches(data):
        model = _model()
        before = torch.get_rng_state()
        loop = lp.batches(
            model, data, plan, batch_size=10, epochs=2, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)
        )
        found = []
        while not loop.over:
            found += [(x.clone(), y.clone()) for x, y, _ in loop]
        assert torch.equal(torch.get_rng_state(), before)
        return found

    ours, wanted = batches(GIVEN[name]()), batches((X, Y))
    assert len(ours) == len(wanted) > 0
    if "workers" in name and plan == "select:topk:0.5":  # candidates come in whole blocks, which are read ahead
        assert all(len(x) == 10 and ((x[:, None] == X).all(2).any(1)).all() for x, _ in ours)
        return
    for (x, y), (u, v) in zip(ours, wanted, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


@pytest.mark.parametrize("name", GIVEN)
def test_selection_and_ordering_alone_take_the_same(name):
    selection = lp.select.parse_select("topk:0.5 >> epochwise")
    selected = list(lp.select.batches(_model(), GIVEN[name](), selection, batch_size=10))
    wanted = list(lp.select.batches(_model(), (X, Y), selection, batch_size=10))
    assert len(selected) > 1
    assert all(torch.equal(a[0], b[0]) for a, b in zip(selected, wanted, strict=True))
    ordered = [OrderedLoader(d, "by-score:k=6,score=label", batch_size=10) for d in (GIVEN[name](), (X, Y))]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(*ordered, strict=True))


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Stream(), "cannot be asked for samples by position"),
        (DataLoader(Stream(), batch_size=10), "a Stream cannot be asked for samples by position"),
        (DataLoader(Own(), batch_sampler=[[0, 1], [2]]), "has no batch size"),
        (DataLoader(Own(), batch_size=None), "has no batch size"),
        (DataLoader(Own(), batch_size=10, sampler=WeightedRandomSampler([1.0] * 60, 60)), "WeightedRandomSampler"),
        (DataLoader(Own(), batch_size=7), "batches of 7, and batch_size=10"),
        (TensorDataset(X), "TensorDataset of 1 tensors"),
        (TensorDataset(X, torch.rand(60, 3)), "one class number"),
        ((X, Y, Y), r"must be \(x, y\)"),
        ([], "cannot be asked|must be"),
    ],
)
def test_what_cannot_be_used_is_said(given, said):
    with pytest.raises(ConfigError, match=said):
        lp.batches(_model(), given, "select:topk:0.5", batch_size=10, epochs=1)


class Typed(Own):
    """Whose labels are tensors of some type."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __getitem__(self, index):
        return X[index], Y[index].to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.uint16], ids=str)
@pytest.mark.parametrize("plan", ["none", "select:topk:0.5", "select:topk:0.5 >> epochwise + mixup"])
def test_labels_of_any_integer_type_are_labels(plan, dtype):
    def run(data):
        return list(lp.batches(_model(), data, plan, batch_size=10, epochs=1))

    wanted = run((X, Y))
    for data in ((X, Y.to(dtype)), Typed(dtype)):
        for got, expected in zip(run(data), wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("mix", [lp.mix.Mixup(num_classes=3), lp.mix.SumAugment(2, num_classes=3)])
def test_a_collate_function_that_mixes_is_none_to_select_by(mix):
    loader = DataLoader(Own(), batch_size=10, collate_fn=mix)
    with pytest.raises(ConfigError, match=r"one class number a sample, and got .* write its mix in the plan"):
        list(lp.batches(_model(), loader, "select:topk:0.5", batch_size=10, epochs=1))


def test_labels_of_a_data_set_are_its_items():
    samples = as_samples(Own())
    assert samples.labels.tolist() == Y.tolist()
    assert samples.num_classes == 3
