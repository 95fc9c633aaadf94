"""A network larger than the memory limit, import included, against torch without a limit.

An MLP (4096-131072-100 unless said, 2.1 GB of weights) lies in an exported program of torch and, for
plain torch, in a safetensors file; with `--form onnx`, for networks that are never in memory, in an
ONNX file with its weights beside it, which plain torch maps. `--rows` rows of 4096 floats are in a DuckDB file. Timed are, each
in a process of its own:

- gradbase: CREATE MODEL of the file and the query over all rows, under ``memory_limit`` and with an
  address space of what an idle process has, the limit and 256 MB;
- torch: reading the weights and one forward pass, once with each number of threads, the best counts.

Memory is the highest resident set less that of an idle process (which has imported and opened the
same). Answers are compared with torch's.

    python benchmarks/larger_than_memory.py --rows 100 2000
    python benchmarks/larger_than_memory.py --rows 100 --form onnx --layers 4096-614400-100
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SPARE = 256 << 20
MODEL = "CREATE MODEL m OPTIONS (model_type = '{kind}', model_path = '{path}')"
_PIECE = 1 << 24
QUERY = "SELECT id, PREDICT(m, x) AS p FROM t ORDER BY id"


def sizes(text: str) -> list[int]:
    return [int(n) for n in text.split("-")]


# -- the processes -----------------------------------------------------------------------------


def status(name: str) -> int:
    """Bytes of a line of this process's status."""
    text = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return int(lines[name].split()[0]) << 10


def prepare(folder: Path, layers: list[int], rows: int, form: str) -> dict[str, Any]:
    """Weights as two files, rows as a database and as an array."""
    import duckdb
    import numpy as np
    import pyarrow as pa

    if form == "onnx":
        write_onnx(folder, layers)
    else:
        write_program(folder, layers)
    values = np.random.default_rng(2).normal(size=(rows, layers[0])).astype(np.float32)
    np.save(folder / "rows.npy", values)
    x = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), layers[0])
    table = pa.table({"id": range(rows), "x": x})
    (folder / "t.duckdb").unlink(missing_ok=True)
    shutil.rmtree(folder / "t.duckdb.gradbase", ignore_errors=True)
    with duckdb.connect(folder / "t.duckdb") as con:
        con.register("given", table)
        con.execute("CREATE TABLE t AS SELECT * FROM given")
    return {}


def write_program(folder: Path, layers: list[int]) -> None:
    """An exported program and a safetensors file."""
    import torch
    from safetensors.torch import save_file

    if (folder / "weights.safetensors").exists():
        return
    torch.manual_seed(1)
    parts: list[torch.nn.Module] = []
    for a, b in itertools.pairwise(layers):
        parts += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    net = torch.nn.Sequential(*parts[:-1])
    save_file(net.state_dict(), folder / "weights.safetensors")
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (torch.zeros(3, layers[0]),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "m.pt2")


def write_onnx(folder: Path, layers: list[int]) -> None:
    """An ONNX file, and its weights in a file beside it, piece by piece."""
    import numpy as np
    from onnx import TensorProto, external_data_helper, helper

    if (folder / "weights.bin").exists():
        return
    random, tensors, nodes, at = np.random.default_rng(1), list[Any](), list[Any](), "x"
    with (folder / "weights.bin").open("wb") as file:
        for i, (a, b) in enumerate(itertools.pairwise(layers)):
            for name, dims in ((f"w{i}", (b, a)), (f"b{i}", (b,))):
                tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
                count = math.prod(dims)
                tensor.raw_data = b""
                external_data_helper.set_external_data(
                    tensor, "weights.bin", file.tell(), 4 * count
                )
                tensor.ClearField("raw_data")
                tensors.append(tensor)
                for start in range(0, count, _PIECE):
                    part = random.random(min(_PIECE, count - start), np.float32)
                    file.write(((part - 0.5) * 2 / a**0.5).data)
            last = i == len(layers) - 2
            nodes.append(
                helper.make_node(
                    "Gemm", [at, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"], transB=1
                )
            )
            at = f"r{i}"
            nodes += [] if last else [helper.make_node("Relu", [f"h{i}"], [at])]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", layers[0]), ("y", layers[-1]))
    )
    graph = helper.make_graph(nodes, "mlp", [x], [y], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "m.onnx").write_bytes(made.SerializeToString())


def with_torch(folder: Path, layers: list[int], form: str, threads: int) -> dict[str, Any]:
    """Seconds of reading and computing."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    x = torch.from_numpy(np.load(folder / "rows.npy"))
    started = time.perf_counter()
    pairs = list(itertools.pairwise(layers))
    if form == "onnx":
        count = sum(a * b + b for a, b in pairs)
        flat = torch.from_file(str(folder / "weights.bin"), size=count)
        sizes = [n for a, b in pairs for n in (a * b, b)]
        parts = flat.split(sizes)
        weights = [
            (w.view(-1, a), b) for w, b, (a, _) in zip(parts[::2], parts[1::2], pairs, strict=True)
        ]
    else:
        state = load_file(folder / "weights.safetensors")
        names = sorted({int(n.split(".")[0]) for n in state})
        weights = [(state[f"{i}.weight"], state[f"{i}.bias"]) for i in names]
    with torch.inference_mode():
        for i, (weight, bias) in enumerate(weights):
            x = torch.nn.functional.linear(x, weight, bias)
            x = x if i == len(weights) - 1 else torch.relu_(x)
    seconds = time.perf_counter() - started
    np.save(folder / "torch.npy", x.numpy())
    return {"seconds": seconds, "peak": status("VmHWM")}


def with_gradbase(folder: Path, form: str, limit: int, idle: dict[str, Any]) -> dict[str, Any]:
    """Seconds of importing and predicting; without `idle` only what an idle process has."""
    import importlib

    import numpy as np

    import gradbase as gb

    for part in ("gradbase.runtime.predict", "gradbase.session.importing"):
        importlib.import_module(part)  # what an idle process has
    db = gb.connect(str(folder / "t.duckdb"), progress=False, memory_limit_bytes=limit)
    db.calibration  # noqa: B018 (measured once per host)
    db.sql("SELECT 1").fetchall()
    if not idle:
        return {"space": status("VmPeak"), "peak": status("VmHWM")}
    most = idle["space"] + limit + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    started = time.perf_counter()
    kind, path = ("onnx", "m.onnx") if form == "onnx" else ("torch", "m.pt2")
    db.sql(MODEL.format(kind=kind, path=folder / path))
    imported = time.perf_counter()
    found = db.sql(QUERY).arrow()
    ended = time.perf_counter()
    p = found.column("p").combine_chunks()
    answers = p.flatten().to_numpy().reshape(len(p), -1)
    error = float(np.abs(answers - np.load(folder / "torch.npy")).max())
    metrics = {n: v for n, v in db.metrics.rows() if n.startswith("page")}
    plan = str(db.explain(QUERY))
    return {
        "import": imported - started, "query": ended - imported, "seconds": ended - started,
        "peak": status("VmHWM"), "space": status("VmPeak"), "error": error, "plan": plan, **metrics,
    }  # fmt: skip


# -- the comparison ----------------------------------------------------------------------------


def child(folder: Path, name: str, **given: Any) -> dict[str, Any]:
    """What a function of this file returns in a process of its own."""
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--given", json.dumps(given)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(folder: Path, layers: list[int], rows: int, limit: int, form: str) -> dict[str, Any]:
    """Figures for a number of rows."""
    child(folder, "prepare", layers=layers, rows=rows, form=form)
    threads = sorted({1, len(os.sched_getaffinity(0))})
    torch_s = min(
        child(folder, "with_torch", layers=layers, form=form, threads=t)["seconds"] for t in threads
    )
    idle = child(folder, "with_gradbase", form=form, limit=limit, idle={})
    found = child(folder, "with_gradbase", form=form, limit=limit, idle=idle)
    print(found.pop("plan"))
    return {
        "rows": rows, "torch_s": torch_s, "gradbase_s": found["seconds"],
        "ratio": found["seconds"] / torch_s, "memory_mb": (found["peak"] - idle["peak"]) / 1e6,
        "address_space_mb": (found["space"] - idle["space"]) / 1e6,
        "import_s": found["import"], "query_s": found["query"], "largest_error": found["error"],
        **{n: v for n, v in found.items() if n.startswith("page")},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--layers", default="4096-131072-100")
    parser.add_argument("--form", choices=("pt2", "onnx"), default="pt2")
    parser.add_argument("--limit", type=int, default=10**9, help="bytes")
    parser.add_argument("--folder", type=Path, help="kept and used again; default: a temporary one")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--given", default="{}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(globals()[given.child](given.folder, **json.loads(given.given))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for rows in given.rows:
            found = compare(folder, sizes(given.layers), rows, given.limit, given.form)
            print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
