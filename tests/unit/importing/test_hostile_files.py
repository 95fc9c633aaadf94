"""Files made to do harm: no code runs, nothing outside is read, memory stays bounded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

import gradbase as gb

pytest.importorskip("onnx")

from onnx import TensorProto, external_data_helper, helper, numpy_helper

from gradbase.importing.files.graph import to_plain
from gradbase.importing.files.limited import read_graph
from gradbase.importing.files.onnx_reader import OnnxReader
from gradbase.importing.files.pt2_reader import Pt2Reader

from .files import model, port, program, saved


@pytest.fixture(scope="module")
def db():
    with gb.connect(progress=False) as session:
        yield session


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A harmless program; tests change parts of it."""
    folder = tmp_path_factory.mktemp("exported")
    return program(folder, torch.nn.Sequential(torch.nn.Linear(3, 2)), torch.zeros(2, 3))


def refused(db, path, message, kind=gb.errors.GradbaseError):
    with pytest.raises(kind, match=message):
        db.import_model("m", path, features=["a", "b", "c"])


# -- ONNX ------------------------------------------------------------------------------------------


def outside(folder, location, offset=0, length=36):
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    weight = numpy_helper.from_array(np.zeros((3, 3), np.float32), "w")
    external_data_helper.set_external_data(weight, location, offset, length)
    weight.ClearField("raw_data")
    made.graph.initializer.append(weight)
    return saved(folder, made)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "sub/../../secret.bin", "link.bin", ""]
)
def test_weights_outside_of_the_folder(db, tmp_path, location):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(db, outside(folder, location), "outside of the folder", gb.errors.DataError)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(1 << 40, 36), (0, 1 << 50), (20, 36), (0, 8), (-5, 36), (0, -36), (10**30, 36)],
)
def test_weights_that_are_not_there(db, tmp_path, offset, length):
    (tmp_path / "w.bin").write_bytes(b"\0" * 40)
    refused(db, outside(tmp_path, "w.bin", offset, length), "bytes|byte", gb.errors.DataError)


def test_weights_in_what_is_no_file(db, tmp_path):
    os.mkfifo(tmp_path / "pipe.bin")  # reading it would wait for ever
    (tmp_path / "folder.bin").mkdir()
    for name in ("pipe.bin", "folder.bin"):
        refused(db, outside(tmp_path, name), "which is not there", gb.errors.DataError)


def test_names_without_end_and_names_given_twice(db, tmp_path):
    long = model([helper.make_node("Relu", ["x"], ["y"], name="n" * 70_000)])
    refused(db, saved(tmp_path, long), "may have 65,536 bytes", gb.errors.DataError)
    twice = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(3, dtype="f4")})
    twice.graph.initializer.append(numpy_helper.from_array(np.ones((5, 2), np.float32), "w"))
    refused(db, saved(tmp_path, twice), "sizes 3 and 5 differ|do not|cannot", gb.errors.ShapeError)


def test_sizes_without_content(db, tmp_path):
    """Nothing is allocated for what a file only claims."""
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    made.graph.initializer.append(
        TensorProto(
            name="w", data_type=TensorProto.FLOAT, dims=[1 << 31, 1 << 31, 4], raw_data=b"1234"
        )
    )
    refused(db, saved(tmp_path, made), "cannot be", gb.errors.DataError)


def test_bombs(db, tmp_path):
    """A few bytes that ask for terabytes."""
    sizes = np.array([1 << 20, 1 << 20, 3], np.int64)
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("Add", ["x", "z"], ["y"]),
    ]
    refused(
        db, saved(tmp_path, model(nodes, {"s": sizes})), "numbers per row|too much|memory|cannot"
    )
    nodes = [
        helper.make_node("Tile", ["x", "s"], ["t"]),
        helper.make_node("ReduceSum", ["t"], ["y"], keepdims=1, axes=[1]),
    ]
    sizes = np.array([1, 1 << 40], np.int64)
    refused(db, saved(tmp_path, model(nodes, {"s": sizes}, opset=11)), "numbers per row|cannot run")


def test_cycles_and_missing_inputs(db, tmp_path):
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    made = model([*nodes, helper.make_node("Relu", ["b"], ["y"])])
    refused(db, saved(tmp_path, made), "cyclic or not in order", gb.errors.DataError)


def test_trees_that_are_none(db, tmp_path):
    forest = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_values=[0.5, 0.5, 0.0],
        nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], nodes_truenodeids=[1, 1, 0],
        nodes_falsenodeids=[2, 2, 0], target_treeids=[0], target_nodeids=[2], target_ids=[0],
        target_weights=[1.0],
    )  # fmt: skip
    refused(db, saved(tmp_path, model([forest], ai_onnx_ml=1)), "cyclic", gb.errors.DataError)


def test_libraries_of_operators(db, tmp_path):
    made = model([helper.make_node("Evil", ["x"], ["y"], domain="com.evil")], com_evil=1)
    refused(
        db,
        saved(tmp_path, made),
        r"`Evil` is of `com.evil`.*never loaded",
        gb.errors.UnsupportedError,
    )


@pytest.mark.parametrize("cut", [1, 10, 40, 90])
def test_damaged_bytes(db, tmp_path, cut):
    whole = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(3, dtype=np.float32)}
    )
    data = whole.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data[:-cut])
    refused(db, tmp_path / "m.onnx", "m.onnx|network|reads", gb.errors.DataError)
    (tmp_path / "m.onnx").write_bytes(b"\xff" * cut + data)
    refused(db, tmp_path / "m.onnx", "m.onnx|network|reads", gb.errors.DataError)


def test_memory_of_reading_has_an_end(tmp_path):
    """A list that does not fit the child's memory ends the child, not this process."""
    node = helper.make_node("Constant", [], ["c"], value_ints=list(range(300, 3_000_300)))
    path = saved(tmp_path, model([node, helper.make_node("Relu", ["x"], ["y"])]))
    with pytest.raises(gb.errors.DataError, match=r"memory|needs more than"):
        read_graph(path, "onnx", 8 << 20)


# -- exported programs -----------------------------------------------------------------------------


def changed(source, target, change, **more):
    """`source` with `change` made to its program, and entries replaced by `more`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("models/model.json"):
                text = json.loads(data)
                change(text)
                data = json.dumps(text).encode()
            new.writestr(item.filename, more.get(item.filename.rpartition("/")[2], data))
    return target


def nothing(_):
    pass


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/gradbase_was_here", "w"))


def test_code_in_symbols(db, tmp_path, exported):
    """torch.export.load evaluates this text."""

    def change(text):
        sizes = text["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
        sizes[0] = {
            "as_expr": {"expr_str": "__import__('os').system('touch /tmp/gradbase_was_here')"}
        }

    path = changed(exported, tmp_path / "m.pt2", change)
    refused(db, path, "plain symbol", gb.errors.UnsupportedError)


def test_operators_that_reach_outside(db, tmp_path, exported):
    for target in (
        "torch.ops.aten.from_file.default",
        "builtins.eval",
        "torch.ops.evil.run.default",
    ):

        def change(text, target=target):
            text["graph_module"]["graph"]["nodes"][0]["target"] = target

        path = changed(exported, tmp_path / "m.pt2", change)
        refused(db, path, "is not among those", gb.errors.UnsupportedError)


def test_pickles_are_never_read(db, tmp_path, exported):
    config = {
        "config": {
            "0.weight": {
                "path_name": "weight_0",
                "is_param": True,
                "use_pickle": True,
                "tensor_meta": None,
            }
        }
    }
    more = {"model_weights_config.json": json.dumps(config), "weight_0": pickle.dumps(Evil()),
            "model.pt": pickle.dumps(Evil())}  # fmt: skip
    refused(
        db,
        changed(exported, tmp_path / "m.pt2", nothing, **more),
        "pickle",
        gb.errors.UnsupportedError,
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil()))
    (tmp_path / "old.pt2").write_bytes(buffer.getvalue())
    refused(db, tmp_path / "old.pt2", "model.json", gb.errors.UnsupportedError)


def test_compressed_bombs(db, tmp_path, exported):
    with (
        zipfile.ZipFile(exported) as old,
        zipfile.ZipFile(tmp_path / "m.pt2", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for item in old.infolist():
            data = b" " * (64 << 20) if item.filename.endswith("model.json") else old.read(item)
            new.writestr(item.filename, data)
    refused(db, tmp_path / "m.pt2", "compressed", gb.errors.UnsupportedError)


def test_sizes_that_do_not_fit(db, tmp_path, exported):
    def change(text):
        text["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"]["as_tensor"]["name"] = (
            "nowhere"
        )

    refused(db, changed(exported, tmp_path / "a.pt2", change), "not in order", gb.errors.DataError)
    short = changed(exported, tmp_path / "b.pt2", nothing, weight_0=b"1234")
    refused(db, short, "needs 24 bytes", gb.errors.DataError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path_name": "../../../../etc/passwd"}, "the archive has no"),
        ({"path_name": "/etc/passwd"}, "the archive has no"),
        ({"tensor_meta": {"sizes": [{"as_int": -3}, {"as_int": 2}]}}, "cannot be"),
        ({"tensor_meta": {"sizes": [{"as_int": 1 << 40}, {"as_int": 1 << 40}]}}, "cannot be"),
        ({"tensor_meta": {"strides": [{"as_int": 0}, {"as_int": 0}]}}, "not stored row by row"),
        ({"tensor_meta": {"storage_offset": {"as_int": -8}}}, "not stored row by row"),
    ],
)
def test_weights_that_lie_elsewhere(db, tmp_path, exported, change, message):
    with zipfile.ZipFile(exported) as old:
        (name,) = (n for n in old.namelist() if n.endswith("model_weights_config.json"))
        config = json.loads(old.read(name))
    entry = next(iter(config["config"].values()))
    entry["tensor_meta"] |= change.get("tensor_meta", {})
    entry["path_name"] = change.get("path_name", entry["path_name"])
    more = {"model_weights_config.json": json.dumps(config)}
    refused(db, changed(exported, tmp_path / "m.pt2", nothing, **more), message)


@pytest.mark.parametrize("reader", [OnnxReader, Pt2Reader])
def test_any_change_of_bytes_is_read_or_refused(tmp_path, exported, reader):
    weights = {"w": np.eye(3, dtype=np.float32)}
    good = model([helper.make_node("MatMul", ["x", "w"], ["y"], name="l")], weights)
    data = exported.read_bytes() if reader is Pt2Reader else good.SerializeToString()
    random = np.random.default_rng(7)
    for _ in range(150):
        made, at = bytearray(data), int(random.integers(len(data)))
        made[at : at + int(random.integers(9))] = random.bytes(int(random.integers(9)))
        (tmp_path / "m").write_bytes(made)
        with contextlib.suppress(gb.errors.GradbaseError, OSError):
            to_plain(reader(str(tmp_path / "m")).graph())


def test_nested_without_end(db, tmp_path, exported):
    deep = changed(exported, tmp_path / "m.pt2", nothing)
    with zipfile.ZipFile(deep) as old, zipfile.ZipFile(tmp_path / "n.pt2", "w") as new:
        for item in old.infolist():
            data = b"[" * 200_000 if item.filename.endswith("model.json") else old.read(item)
            new.writestr(item.filename, data)
    refused(db, tmp_path / "n.pt2", "n.pt2", gb.errors.DataError)


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".joblib"])
def test_other_files(db, tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(pickle.dumps(Evil()))
    refused(db, path, "no file that can be imported", gb.errors.UnsupportedError)


def test_files_of_weights_alone_say_what_to_do(db, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(gb.errors.UnsupportedError, match="no file that can be imported") as error:
        db.import_model("m", tmp_path / "m.safetensors")
    assert "weights but no network" in str(error.value)


def test_nothing_has_run():
    from pathlib import Path

    assert not Path("/tmp/gradbase_was_here").exists()


__all__ = ["port"]
