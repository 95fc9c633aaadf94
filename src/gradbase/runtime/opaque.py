"""Parts of networks that stay whole, run by ONNX Runtime in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gradbase.errors import UnsupportedError
from gradbase.ir.imported import Opaque
from gradbase.runtime.operators import Operator, Values

Run = Callable[[dict[str, npt.NDArray[Any]], str], npt.NDArray[Any]]


def opaque_operator(node: Opaque, program: torch.Tensor) -> Operator:
    """The function of `node`, shared by threads; `program` holds its bytes.

    Raises
    ------
    UnsupportedError
        ONNX Runtime is not installed, or refuses the program.
    """
    session = _session(node, program)
    ranks = {i.name: len(i.shape) for i in session.get_inputs()}
    texts = {i.name for i in session.get_inputs() if i.type == "tensor(string)"}

    def feed(name: str, value: torch.Tensor) -> npt.NDArray[Any]:
        if name not in texts:
            return value.contiguous().numpy()
        words = value.contiguous().numpy().view(f"S{value.shape[1]}")[:, 0]
        plain = np.array([w.decode() for w in words.tolist()], dtype=object)
        return plain.reshape(-1, *[1] * (ranks[name] - 1))

    def run(values: Values, rows: int) -> torch.Tensor:
        feeds = {n: feed(n, v) for n, v in zip(node.names, values[1:], strict=True)}
        if node.batch:
            return torch.from_numpy(_in_batches(session, feeds, node, rows))
        return torch.from_numpy(session.run([node.output], feeds)[0])

    return run


def _session(node: Opaque, program: torch.Tensor) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise UnsupportedError(
            f"the network has a part ({node.operators}) that ONNX Runtime runs, which is not "
            "installed",
            hint="pip install 'gradbase[onnx]'",
        ) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # threads are the broker's
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(
            program.numpy().tobytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors share no class
        raise UnsupportedError(f"ONNX Runtime refuses {node.operators}: {error}") from error


def _in_batches(
    session: Any, feeds: dict[str, npt.NDArray[Any]], node: Opaque, rows: int
) -> npt.NDArray[Any]:
    """`node.batch` rows a call, the last call filled up with its last row."""
    size = node.batch
    made: list[npt.NDArray[Any]] = []
    for start in range(0, rows, size):
        places = np.minimum(np.arange(start, start + size), rows - 1)
        made.append(session.run([node.output], {n: v[places] for n, v in feeds.items()})[0])
    if not made:
        return np.zeros((0, *node.dims[1:]), node.kind)
    return np.concatenate(made)[:rows]
