"""A finished fit predicts, as a program over the table's columns, what it computed in training."""

from __future__ import annotations

import blake3
import numpy as np
import pyarrow as pa
import pytest
import torch
from training_tables import dataset_of, fit_of, make_table, prepared

from gradbase.ir.learning import FusedFit, Model
from gradbase.ir.printer import print_plan
from gradbase.ir.tensor import Param
from gradbase.runtime.program import Program
from gradbase.runtime.train.trainer import make_trainer

TARGETS = {"binary": ("y", 2), "multiclass": ("y", 3), "regression": ("value", 2)}


class Stored:
    def __init__(self, params):
        self.params = params

    def array(self, param):
        return self.params[param.hash].reshape(param.dims)


def trained(task, hidden, wide=None, *, fused):
    label, classes = TARGETS[task]
    table = make_table(200, classes)
    vectors = np.random.default_rng(1).normal(size=(200, 18))
    table = table.append_column("v", pa.array(vectors.tolist(), pa.list_(pa.float64(), 18)))
    table = table.drop_columns([({"y", "value"} - {label}).pop()])
    node, data = dataset_of(table, label, task), prepared(table, label, task)
    network = {"hidden": hidden, "wide": wide}
    fits = (fit_of(node, 1, **network), fit_of(node, 2, **network, learn_rate=0.02))
    trainer = make_trainer(FusedFit(fits) if fused else fits[0], data)
    trainer.run_unit(0, 0)
    return table, data, trainer


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("network", [((), None), ((8, 5), None), ((8, 5), ("adagrad", 0.1))],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("task", TARGETS)
def test_the_program_computes_what_training_did(task, network, fused):
    table, data, trainer = trained(task, *network, fused=fused)
    member = trainer.active[-1]
    outputs, params = trainer.finish(member)
    model = Model("m", 1, 1, task, TARGETS[task][0], data.inputs.features, outputs)
    features = table.select([f.name for f in data.inputs.features]).combine_chunks()
    method = "value" if task == "regression" else "proba"
    runner = Program(model, [method], Stored(params), bitwise=True).runner(features.schema.types)
    [found] = runner(features.to_batches()[0])
    with torch.no_grad():
        z = trainer._engine.outputs("eval")[0][member]
    expected = {
        "regression": lambda: z[:, 0].double() * data.target.scale + data.target.mean,
        "binary": lambda: torch.sigmoid(z[:, 0].double()),
        "multiclass": lambda: torch.softmax(z.double(), 1),
    }[task]()
    predicted = np.array(found.to_pylist())[data.parts.eval]
    assert predicted == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-5)


def test_constants_are_named_by_the_hash_of_their_bytes():
    _, _, trainer = trained("binary", (8, 5), fused=True)
    outputs, params = trainer.finish(0)
    assert [o.method for o in outputs] == ["label", "proba", "probs"]
    assert {p.hash for p in outputs[0].params} <= set(params)
    for digest, array in params.items():
        assert blake3.blake3(array.tobytes()).hexdigest() == digest
        assert array.flags.c_contiguous
    assert all(isinstance(p, Param) for p in outputs[0].params)
    assert "Linear" in print_plan(outputs[0])


def test_what_a_finished_fit_returned_is_not_changed_by_more_training():
    _, _, trainer = trained("binary", (8, 5), fused=True)
    _, params = trainer.finish(0)
    before = {k: v.copy() for k, v in params.items()}
    trainer.run_unit(0, 1)
    assert all(np.array_equal(before[k], params[k]) for k in params)
