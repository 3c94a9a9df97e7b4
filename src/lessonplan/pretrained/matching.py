"""Stored weights into a network: by name, or by the order or the shapes of what it is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.models.channels import to_channels
from lessonplan.pretrained.renamed import COUNT, by_shapes, keeps_order
from lessonplan.pretrained.timm_files import as_timm_reads

_RELATIVE = "rel"  # relative_position_bias_table, rel_pos
_PREFIXES = ("", "module.", "_orig_mod.", "model.", "backbone.", "net.", "encoder.", "network.")


@dataclass(frozen=True)
class Match:
    """What became of stored weights.

    Attributes:
        loaded: tensors that were taken over.
        renamed: how many of them were found by something else than their names.
        fresh: names of the network's tensors that begin anew: its head.
        unused: how many stored tensors had no place.
        adapted: what was changed to fit, in words.
        found_by: what the renamed ones were found by.
    """

    loaded: int
    renamed: int
    fresh: tuple[str, ...]
    unused: int
    adapted: tuple[str, ...] = ()
    found_by: str = "their order"

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors loaded"]
        if self.renamed:
            parts[0] += f" ({self.renamed} of other names, by {self.found_by})"
        parts += self.adapted
        if self.unused:
            parts.append(f"{self.unused} left out")
        if self.fresh:
            parts.append(f"new: {', '.join(self.fresh)}")
        return "; ".join(parts)


class NoMatch(ConfigError):
    """Weights of another architecture; ``fitting`` is how many tensors would have had a place."""

    def __init__(self, text: str, fitting: int) -> None:
        super().__init__(text)
        self.fitting = fitting


@torch.no_grad()
def put_weights(network: nn.Module, state: Mapping[str, Tensor], head: str) -> Match:
    """Load stored weights into a network, all but a head of another size.

    Names are tried first (also behind prefixes such as ``module.``); where they are of another library, tensors
    are told by their order, if kinds and shapes agree from the first to the last, or by their shapes and the
    numbers in their names, if these leave no choice (``by_shapes``). Files that are sorted have no order. The
    first layer takes images of another number of channels: colours are summed for grey ones, and grey weights are
    shared out among colours. Position embeddings of another grid are resampled, tables of relative positions too
    where timm knows how, which reads files of some authors' own as well.

    Args:
        network: changed in place.
        state: stored tensors by name.
        head: name of the module that may begin anew.

    Raises:
        NoMatch: they are of another architecture.
    """
    own = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    body = [name for name in own if not _within(name, head) and not name.endswith(COUNT)]
    in_order = keeps_order(state)  # of the file: without its prefixes a sorted one may look as if it had an order
    state, origin = _by_names(state, own)
    renamed, found_by = 0, "their order"
    adapted: list[str] = []
    known = as_timm_reads(network, state) if any(_amiss(name, state, own) for name in body) else None
    if known is not None and any(name not in state for name in body) and all(name in known for name in body):
        adapted.append("renamed as timm does")
        state, origin = known, len(known)
    if any(name not in state for name in body):
        found = _by_order(state, own, body, head) if in_order else None
        if found is None:
            found, found_by = _by_shapes(state, own, body, head), "their shapes and numbers"
        if found is None:
            fitting = sum(name in state and state[name].shape == own[name].shape for name in body)
            missing = [name for name in body if name not in state]
            hint = _of_same_shapes(state, own, body, in_order)
            raise NoMatch(
                f"{fitting} of {len(body)} tensors fit: {missing[0]} and {len(missing) - 1} more are not among the"
                f" {len(state)} stored ones ({', '.join(list(state)[:2])}, ...){hint}",
                fitting,
            )
        renamed, state = len(body), found
        origin = len(found)
    if more := _of_more(state, own, head):
        raise NoMatch(
            f"{len(body)} tensors fit, and {len(more)} of the file have no place in the network ({more[0]}, ...):"
            " they belong to a larger one",
            len(body),
        )
    ready: dict[str, Tensor] = {}
    tables = 0
    first = next((name for name in body if own[name].ndim == 4), None)
    for name, value in own.items():
        if name not in state:
            continue
        stored = state[name]
        resampled = known.get(name) if known is not None and _RELATIVE in name else None
        if stored.shape != value.shape and resampled is not None and resampled.shape == value.shape:
            stored = resampled
            tables += 1
        elif stored.shape != value.shape and not _within(name, head):
            stored = _fitted(network, name, stored, value, name == first, adapted)
        if stored.shape == value.shape:
            ready[name] = stored
    if tables:
        adapted.append(f"{tables} tables of relative positions resampled")
    for name, stored in ready.items():
        own[name].copy_(stored)
    fresh = tuple(name for name in own if name not in ready and not name.endswith(COUNT))
    return Match(len(ready), renamed, fresh, origin - len(ready), tuple(adapted), found_by)


def _of_same_shapes(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], body: list[str], in_order: bool
) -> str:
    """What to do where all that is missing is which tensor is which."""
    there = Counter(value.shape for value in state.values())
    if not Counter(own[name].shape for name in body) <= there:
        return ""
    if in_order:
        return "; their shapes are the network's, in another order: give them the network's names"
    return (
        "; their shapes are the network's, but the file is sorted by its own names: give the state dict that torch"
        " has saved, which keeps the order of the layers, or one with the network's names"
    )


def _amiss(name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return name not in state or state[name].shape != own[name].shape


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _by_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """The stored tensors under the names that fit best, with a prefix less or more; and how many there are."""

    def without(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in state.items()}

    def behind(prefix: str) -> dict[str, Tensor]:  # of what the network wraps
        return {prefix + name: value for name, value in state.items()}

    named = [*map(without, _PREFIXES), *map(behind, _PREFIXES[1:])]
    return max(named, key=lambda names: sum(name in own for name in names)), len(state)


def _of_more(state: Mapping[str, Tensor], own: Mapping[str, Tensor], head: str) -> list[str]:
    """Stored weights that have no place though the part that they belong to is there: those of a larger network.

    Decoders and further heads are parts of their own, and may be left out.
    """
    depth = 1
    while len({tuple(name.split(".")[:depth]) for name in own}) == 1 and depth < 9:  # a wrapper around the network
        depth += 1

    def part(name: str) -> list[str]:
        return name.split(".")[:depth]

    there = [part(name) for name in own if name.count(".") >= depth and not _within(name, head)]
    return [
        name
        for name, value in state.items()
        if name not in own and not _within(name, head) and value.ndim > 1
        if name.endswith(".weight") and part(name) in there
    ]


def _by_order(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], body: list[str], head: str
) -> dict[str, Tensor] | None:
    """Stored tensors under the network's names, one after the other; None where kinds or shapes differ."""
    stored = [name for name in state if not name.endswith(COUNT)]
    heads = [name for name in own if _within(name, head) and not name.endswith(COUNT)]
    if len(stored) < len(body):
        return None
    pairs = list(zip(body, stored, strict=False))
    for place, (mine, theirs) in enumerate(pairs):
        a, b = own[mine].shape, state[theirs].shape
        channels = place == 0 and len(a) == len(b) == 4 and (a[0], a[2:]) == (b[0], b[2:])
        if mine.rpartition(".")[2] != theirs.rpartition(".")[2] or not (a == b or channels):
            return None
    pairs += list(zip(heads, stored[len(body) :], strict=False))
    return _taken(state, own, dict(pairs))


def _by_shapes(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], body: list[str], head: str
) -> dict[str, Tensor] | None:
    """Stored tensors under the network's names, told by shapes and numbers; None where these leave a choice."""
    stored = {name: value.shape for name, value in state.items()}
    shapes = {name: own[name].shape for name in body}
    heads = {name: value.shape for name, value in own.items() if _within(name, head)}
    first = next((name for name in body if len(shapes[name]) == 4), None)
    for channels in (None, 3, 1):  # of the images that the weights were trained on
        if channels is not None and first is not None:
            shapes[first] = torch.Size([shapes[first][0], channels, *shapes[first][2:]])
        if (names := by_shapes(stored, shapes, heads)) is not None:
            return _taken(state, own, names)
    return None


def _taken(state: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Stored tensors under the network's names, and how many batches the normalisations among them have seen."""
    found = {mine: state[theirs] for mine, theirs in names.items()}
    for mine, theirs in names.items():
        count = f"{theirs.rpartition('.')[0]}.{COUNT}"
        if count in state:
            found[f"{mine.rpartition('.')[0]}.{COUNT}"] = state[count]
    return {name: value for name, value in found.items() if name in own}


def _fitted(
    network: nn.Module, name: str, stored: Tensor, value: Tensor, is_first: bool, adapted: list[str]
) -> Tensor:
    """A tensor of another shape made to fit, where that means something."""
    if is_first and stored.ndim == 4 and stored.shape[0] == value.shape[0] and stored.shape[2:] == value.shape[2:]:
        adapted.append(f"{name} from {stored.shape[1]} to {value.shape[1]} channels")
        return to_channels(stored.float(), value.shape[1])
    if "pos_embed" in name and stored.ndim == value.ndim == 3 and stored.shape[2] == value.shape[2]:
        from timm.layers.pos_embed import resample_abs_pos_embed

        grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
        if grid is not None:
            adapted.append(f"{name} to {grid[0]} x {grid[1]} patches")
            prefix = int(getattr(network, "num_prefix_tokens", 1))
            resampled: Tensor = resample_abs_pos_embed(stored, list(grid), num_prefix_tokens=prefix)
            return resampled
    raise NoMatch(
        f"{name} has the shape {tuple(stored.shape)} in the file and {tuple(value.shape)} in the network", 0
    )
