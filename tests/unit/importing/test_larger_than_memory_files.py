"""Files larger than the limit, in a process that is given no more memory than that."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from .files import helper, model, port, program, saved

LIMIT = 64 << 20
LARGE = (256, 300_000, 50)  # 367 MB of weights: more than the limit and what is spare


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(1)
    return [
        (random.random((b, a), np.float32) - 0.5) / a**0.5 for a, b in itertools.pairwise(LARGE)
    ]


def as_program(folder, weights):
    layers = [torch.nn.Linear(w.shape[1], w.shape[0], bias=False) for w in weights]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = torch.from_numpy(weight)
    return program(
        folder, torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1]), torch.ones(3, 256)
    )


def as_onnx(folder, weights):
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y"]),
    ]
    given = {"w0": weights[0], "w1": np.ascontiguousarray(weights[1].T)}
    return saved(folder, model(nodes, given, [port("x", ["n", 256])], [port("y", ["n", 50])]))


@pytest.mark.slow
@pytest.mark.parametrize("write", [as_program, as_onnx])
def test_a_process_without_more_memory_imports_and_predicts(tmp_path, weights, write):
    """Address space of an idle process, the limit and 256 MB; import and query within the limit."""
    x = np.random.default_rng(2).normal(size=(40, 256)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.maximum(x @ weights[0].T, 0) @ weights[1].T)
    path = write(tmp_path, weights)
    script = Path(__file__).with_name("limited_import.py")
    command = [sys.executable, str(script), str(path), str(tmp_path), str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert found["error"] < 1e-4
    assert found["bytes"] < 2 * LIMIT  # a part of it are the first allocations of libraries
