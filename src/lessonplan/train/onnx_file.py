"""A trained network as an ONNX file that other programs can run."""

from __future__ import annotations

import copy
import importlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lessonplan.data import Preprocessing
from lessonplan.errors import ConfigError, first_line
from lessonplan.extras import refuse_other_versions
from lessonplan.files import write_atomically
from lessonplan.network.network import as_logits
from lessonplan.network.quiet import quiet
from lessonplan.train.onnx_graph import Graph
from lessonplan.version import __version__

METADATA = "lessonplan"
"""Key of the JSON in the file's ``metadata_props``."""
INPUT, OUTPUTS = "input", ("logits", "probabilities")
LARGEST = 2**31 - 2**22  # bytes of weights: protobuf holds 2 GiB, some of it for the graph
TOLERANCE = 1e-3  # of the largest logit, or of 1: far above rounding, far below what a wrong operator does


def write_onnx(
    path: Path,
    model: nn.Module,
    preprocessing: Preprocessing,
    class_names: tuple[str, ...],
    *,
    inside: bool = False,
    opset: int | None = None,
    force: bool = False,
) -> str:
    """Write a network as ONNX, once ONNX Runtime gives the network's own logits for it; see ``Classifier.export``.

    Args:
        path: the file; its folder is made.
        model: the network; it is left as it is, on its device.
        preprocessing: what is told in the file, and done in it where ``inside``.
        class_names: one a class.
        inside: whether the graph normalises by itself.
        opset: version of ONNX's operators; None: PyTorch's default.
        force: replace a file that is there.

    Returns:
        What the file takes, in words.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: give a file, for example {path / 'model.onnx'}")
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already: give another file, or --force (force=True) to replace it")
    onnx, runtime = _libraries()
    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not 1 <= opset <= newest:
        raise ConfigError(
            f"opset {opset} is not known: the installed onnx has 1 to {newest}, PyTorch writes 18 on"
        )
    size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    if size > LARGEST:
        raise ConfigError(f"the network has {size / 1e9:.1f} GB of weights: one ONNX file holds at most 2.1 GB")
    try:
        graph = Graph(copy.deepcopy(model).cpu(), preprocessing, inside).eval()
    except Exception as error:
        raise _cannot(error) from error
    with torch.no_grad():
        as_logits(graph.output(graph.example(2)), 2, len(class_names))
    proto = _converted(graph, opset)
    told = {"version": __version__, "takes": graph.takes(), "preprocessing_inside": inside}
    told |= {"class_names": list(class_names), **preprocessing.to_dict()}
    onnx.helper.set_model_props(proto, {METADATA: json.dumps(told)})
    content = proto.SerializeToString()
    _compare(graph, content, onnx, runtime)
    write_atomically(path, content)
    return graph.takes()


def _libraries() -> tuple[Any, Any]:
    refuse_other_versions("onnx")
    try:
        importlib.import_module("onnxscript")  # PyTorch's exporter is written in it
        return importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ConfigError(
            f"an ONNX file needs {error.name or 'onnx'}, which is missing: pip install 'lessonplan[onnx]'"
        ) from error


def _converted(graph: Graph, opset: int | None) -> Any:
    """The model as protobuf, of the opset that was asked for."""
    passes = importlib.import_module("onnx_ir.passes.common")
    try:
        with quiet():
            program: Any = torch.onnx.export(
                graph,
                (graph.example(2),),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=opset,
                verbose=False,
            )
            # the exporter notes in which file of this machine each operator's code stands
            passes.ClearMetadataAndDocStringPass()(program.model)
            proto = program.model_proto
    except Exception as error:
        raise _cannot(error) from error
    written = next(i.version for i in proto.opset_import if i.domain in ("", "ai.onnx"))
    if opset not in (None, written):  # the exporter then keeps another one and says so in a log
        raise ConfigError(f"this network cannot be written with opset {opset}: give {written} or a higher one")
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ConfigError(
            "the network cannot be written as ONNX for any batch size: its forward fixes the number of samples,"
            " take it from x.shape[0] there"
        )
    return proto


def _compare(graph: Graph, content: bytes, onnx: Any, runtime: Any) -> None:
    """Refuse a file that is not valid, or gives other logits than the network (numbers that tracing froze)."""
    try:
        onnx.checker.check_model(content, full_check=True)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        given = {n: torch.from_numpy(session.run(None, {INPUT: graph.example(n).numpy()})[0]) for n in (1, 3)}
    except Exception as error:
        raise _cannot(error) from error
    for n, logits in given.items():
        with torch.no_grad():
            expected = graph(graph.example(n))[0]
        off = float((logits - expected).abs().max())
        if not off <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise ConfigError(
                f"the ONNX file would give other logits than the network (off by {off:.3g}): its forward draws"
                " random numbers, or computes outside of PyTorch"
            )


def _cannot(error: BaseException) -> ConfigError:
    """One sentence from what lies at the bottom of the exporter's pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error) or type(error).__name__
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", text)
    reason = f"ONNX has no operator for {operator[1]}" if operator else first_line(text)
    return ConfigError(
        f"the network cannot be written as ONNX ({reason}): replace what it does there, or try another opset"
    )
