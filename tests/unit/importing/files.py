"""Small ONNX files and exported programs for tests."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

ROWS = 5
NUMBERS = np.array(
    [[0.5, -1.0, 2.0], [1.5, 0.25, -0.75], [-2.0, 3.0, 0.125], [0.0, 0.0, 0.0], [4.0, -3.0, 1.0]],
    np.float32,
)


def port(name, dims, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, dims)


def model(nodes, weights=None, inputs=None, outputs=("y",), opset=17, **domains):
    """A file's bytes; `weights` by name."""
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs or [port("x", ["n", 3])],
        [o if not isinstance(o, str) else port(o, None) for o in outputs],
        held,
    )
    versions = [helper.make_opsetid("", opset)]
    versions += [helper.make_opsetid(d.replace("_", "."), v) for d, v in domains.items()]
    made = helper.make_model(graph, opset_imports=versions)
    made.ir_version = 8
    return made


def saved(folder, made, name="m.onnx"):
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def by_runtime(path, feeds):
    """What ONNX Runtime says."""
    import onnxruntime as ort

    return ort.InferenceSession(str(path)).run(None, feeds)[0]


def program(folder, module, example, name="m.pt2"):
    """A module as a ``.pt2`` file, for any number of rows."""
    rows = torch.export.Dim("rows", min=1)
    exported = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: rows},))
    torch.export.save(exported, folder / name)
    return folder / name


__all__ = ["NUMBERS", "ROWS", "by_runtime", "helper", "model", "onnx", "port", "program", "saved"]
