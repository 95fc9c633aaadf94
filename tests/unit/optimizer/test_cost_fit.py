"""Which fits train as one stack."""

from __future__ import annotations

import pytest

from gradbase.ir.facts import Pilot
from gradbase.ir.learning import FusedFit, Mlp, Optimizer, PythonNetwork
from gradbase.ir.types import TEXT, array_of, parse_type
from gradbase.optimizer.cost import estimate
from gradbase.optimizer.cost_fit import (
    LARGEST_GROUP,
    encoded_width,
    group_key,
    group_seconds,
    layer_sizes,
    makespan,
    training_rows,
)
from gradbase.optimizer.driver import optimize

from .plans import context, training


@pytest.mark.parametrize(
    ("hidden", "batch", "stacked"),
    [
        ((64, 32), 256, True),
        ((64, 32), 64, True),
        ((256, 128), 1024, False),
        ((512, 256), 256, False),
    ],
)
def test_the_four_measured_shapes(hidden, batch, stacked):
    """32 AdamW fits over 45,211 x 50: small layers train faster as a stack, large ones alone."""
    made = optimize(training(hidden, batch), context({"t": 45_211}))
    assert stacked is any(isinstance(t, FusedFit) for t in made.trials)


@pytest.mark.parametrize(("threads", "groups"), [(1, 1), (2, 2)])
def test_groups_are_spread_over_the_workers(threads, groups):
    made = optimize(training((64, 32), 64), context({"t": 45_211}, threads=threads))
    assert [len(t.fits) for t in made.trials] == [32 // groups] * groups
    assert (made.workers, made.threads) == (groups, 1)


def test_groups_have_a_largest_size():
    made = optimize(training((8,), 64, fits=200), context({"t": 10_000}, threads=1))
    assert max(len(t.fits) for t in made.trials) <= LARGEST_GROUP


def test_every_fit_is_in_exactly_one_group():
    search = training((16,), 64, fits=30)
    made = optimize(search, context({"t": 10_000}))
    assert [f.trial for f in made.fits] == list(range(30))
    assert sum(len(getattr(t, "fits", (t,))) for t in made.trials) == 30


@pytest.mark.parametrize(
    ("change", "together"),
    [
        ({"optimizer": Optimizer("adamw", 0.5, 0.1)}, True),
        ({"network": Mlp((16,), "relu", 0.5)}, True),
        ({"network": Mlp((16,), "tanh")}, False),
        ({"network": Mlp((16, 16))}, False),
        ({"optimizer": Optimizer("sgd", 0.001)}, False),
        ({"batch_size": 32}, False),
        ({"epochs": 6}, False),
        ({"seed": 8}, True),
        ({"early_stop": True}, False),
    ],
)
def test_what_fits_of_a_group_have_in_common(change, together):
    (fit,) = training((16,), 64, fits=1).trials
    given = context({"t": 10_000})
    assert (group_key(fit, given) == group_key(fit.replace(**change), given)) is together


class Tried:
    """Modules that are alike where their configuration is, with fixed times of a step."""

    def __init__(self, **times):
        self.times, self.asked = times, 0

    def likeness(self, fit, inputs, outputs):
        return (fit.network.configuration, inputs, outputs)

    def pilot(self, fits, inputs, outputs):
        del fits, inputs, outputs
        self.asked += 1
        return Pilot(**self.times)


def of_modules(modules, configurations=("{}",)):
    given = context({"t": 10_000}, threads=1)
    given.modules = modules
    search = training((16,), 64, fits=8)
    nets = [PythonNetwork("nets:f", c, "h") for c in configurations]
    trials = tuple(f.replace(network=nets[i % len(nets)]) for i, f in enumerate(search.trials))
    made = optimize(search.replace(trials=trials), given)
    return made, given.choices[made]


def test_python_modules_stack_where_minibatches_say_so():
    made, choice = of_modules(Tried(alone_s=1e-3, stack_s=1e-3, each_s=1e-4), ("{}", "[]"))
    assert [len(t.fits) for t in made.trials] == [4, 4]
    assert "1.00 ms alone, 1.00 + 0.10 n ms for n stacked" in choice.details[0]


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        (None, ()),
        (Tried(alone_s=1e-3, stack_s=0.0, each_s=0.95e-3), ("1.00 ms alone, 0.00 + 0.95 n ms",)),
        (Tried(alone_s=1e-3, reason="it draws"), ("alone, because it draws",)),
    ],
)
def test_python_modules_train_alone(modules, told):
    """Without minibatches, where a stack gains less than a tenth, or cannot be."""
    made, choice = of_modules(modules)
    assert len(made.trials) == 8
    assert all(part in line for part, line in zip(told, choice.details, strict=True))


def test_a_single_module_is_not_tried_out():
    modules = Tried(alone_s=1.0)
    of_modules(modules, [str(n) for n in range(8)])
    assert not modules.asked


@pytest.mark.parametrize(
    ("seconds", "workers", "end"),
    [([], 2, 0.0), ([3.0, 1.0, 1.0, 1.0], 2, 3.0), ([1.0] * 5, 2, 3.0), ([2.0], 4, 2.0)],
)
def test_makespan_places_the_longest_first(seconds, workers, end):
    assert makespan(seconds, workers) == end


def test_layers_follow_from_data_and_network():
    (fit,) = training((64, 32), 64, fits=1).trials
    assert layer_sizes(fit, context()) == [(50, 64), (64, 32), (32, 1)]


def test_widths_are_guessed_by_type_or_told():
    (fit,) = training((16,), 64, fits=1, features=2).trials
    schema = fit.data.relation.schema
    assert encoded_width(fit.data, context()) == 2
    kinds = {"x0": TEXT, "x1": array_of(parse_type("float32"), 5), "y": TEXT}
    columns = type(schema).of(**kinds)
    data = fit.data.replace(relation=fit.data.relation.replace(columns=columns))
    assert encoded_width(data, context()) == 8 + 5
    told = context()
    told.encoded_width = lambda _: 99
    assert encoded_width(data, told) == 99


def test_rows_of_an_epoch_leave_out_the_evaluation_rows():
    facts = context({"t": 1000})
    (fit,) = training((16,), 64, fits=1).trials
    estimate(fit.data, facts)
    assert training_rows(fit, facts) == pytest.approx(800)
    assert group_seconds((fit,), facts) > 0
