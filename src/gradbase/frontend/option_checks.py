"""What options must keep to together: each may be right by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradbase.errors import BindError, UnsupportedError, near
from gradbase.frontend.cursor import OptionValue
from gradbase.frontend.option_table import (
    AUTOENCODER,
    CLUSTER_OBJECTIVE,
    KMEANS,
    LINEAR,
    NORMAL_EQUATION,
    PYTHON,
    WIDE,
)
from gradbase.frontend.space import Choice, Dimension
from gradbase.frontend.training import CLASSIFICATION, DEFAULT_METRIC
from gradbase.ir.learning import METRICS
from gradbase.ir.metrics import reference_of
from gradbase.ir.stepping import CONSTANT, OF_CLASSES, OF_NUMBERS, OWN_LOSS

Fields = dict[str, Any]
Given = Mapping[str, OptionValue]
PROXIMAL = ("sgd", "adagrad")
"""Optimisers whose step has a proximal one behind it, which l1_reg needs."""
STEPS = {
    "optimizer": "optimizer",
    "learn_rate": "learn_rate",
    "momentum": "momentum",
    "batch_size": "batch_size",
    "l1_reg": "l1_reg",
    "epochs": "max_epochs",
    "early_stop": "early_stop",
    "min_rel_progress": "min_rel_progress",
    "patience": "early_stop_patience",
    "warm_start": "warm_start",
    "loss": "loss",
    "clip_norm": "clip_norm",
    "schedule": "lr_schedule",
    "warmup": "lr_warmup_epochs",
}
"""Fields that say something about steps of gradient descent, and their options."""
_DEFAULT_FOLDS = 5


def check_together(
    fields: Fields, space: Mapping[str, Dimension], given: Given, family: str
) -> None:
    """Raise BindError where options contradict each other; fill in what follows from others."""
    _complete_split(fields)
    _check_split(fields, given)
    _complete_linear_part(fields, space, family)
    _check_weights(fields, given)
    _check_strategy(fields, space, given)
    _check_l1(fields, space, given, family)
    _check_warm_start(fields, space, given)
    _check_groups(fields, given)
    _check_loss(fields, given)
    _check_functions(fields, space, given, family)
    _check_schedule(fields, space, given)
    _check_metric(fields, given)
    if family == AUTOENCODER:
        _check_bottleneck(fields, space, given)
    _check_solved(fields, given, family)


def _complete_split(fields: Fields) -> None:
    """A fraction alone means RANDOM, a number of folds alone K_FOLD."""
    fractions = (fields.get("split.eval_fraction"), fields.get("split.test_fraction"))
    if "split.method" not in fields:
        if "split.folds" in fields:
            fields["split.method"] = "k_fold"
        elif fractions != (None, None):
            fields["split.method"] = "random"
    if fields.get("split.method") == "k_fold":
        fields.setdefault("split.folds", _DEFAULT_FOLDS)


def _check_split(fields: Fields, given: Given) -> None:
    method = fields.get("split.method", "auto_split")
    column = fields.get("split.column", "")
    for name in ("data_split_eval_fraction", "data_split_test_fraction"):
        if name in given and method not in ("random", "seq"):
            raise BindError(
                f"{name} goes with data_split_method 'random' or 'seq', found '{method}'",
                at=given[name].name_at,
            )
    if fields.get("split.folds") and method != "k_fold":
        raise BindError(
            f"num_folds goes with data_split_method 'k_fold', found '{method}'",
            at=given["num_folds"].name_at,
        )
    evaluation, test = (fields.get(f"split.{p}_fraction") for p in ("eval", "test"))
    total = (0.2 if evaluation is None and test else evaluation or 0.0) + (test or 0.0)
    if total >= 1:
        at = given.get("data_split_test_fraction", given.get("data_split_eval_fraction"))
        raise BindError(
            f"evaluation and test rows take {total:g} of all rows, nothing is left to train on",
            at=at.value_at if at else None,
        )
    if method in ("seq", "custom") and not column:
        raise BindError(
            f"data_split_method '{method}' needs data_split_col",
            at=given["data_split_method"].value_at,
        )
    if column and method not in ("seq", "custom"):
        raise BindError(
            f"data_split_col goes with data_split_method 'seq' or 'custom', found '{method}'",
            at=given["data_split_col"].name_at,
        )


def _complete_linear_part(fields: Fields, space: Mapping[str, Dimension], family: str) -> None:
    """A linear part is trained in its own way, unless all is said to be trained in one."""
    if family not in WIDE:
        return
    given = {*fields, *space}
    for name, same in (("optimizer", ""), ("learn_rate", None)):
        if name in given and f"linear_{name}" not in given:
            fields[f"linear_{name}"] = same


def _check_weights(fields: Fields, given: Given) -> None:
    """At most one way of weighing, as in BigQuery."""
    ways = [
        name
        for name, field in (
            ("class_weights", "class_weights"),
            ("auto_class_weights", "auto_class_weights"),
            ("instance_weight_col", "weight_column"),
        )
        if fields.get(field)
    ]
    if len(ways) > 1:
        raise BindError(
            f"{ways[0]} and {ways[1]} exclude each other",
            at=given[ways[1]].name_at,
            hint="multiply the class's weight into the instance weight in the query"
            if "instance_weight_col" in ways
            else "leave one of them out",
        )


def _check_strategy(fields: Fields, space: Mapping[str, Dimension], given: Given) -> None:
    """The normal equation takes no steps: what speaks of them contradicts it."""
    if fields.get("strategy") != NORMAL_EQUATION:
        return
    for field, name in STEPS.items():
        if field in space or (name in given and fields.get(field)):
            raise BindError(
                f"optimize_strategy 'normal_equation' solves in one step, `{name}` is of gradient "
                "descent",
                at=given[name].name_at,
                hint="leave one of the two out; l2_reg goes with both",
            )


def _check_l1(fields: Fields, space: Mapping[str, Dimension], given: Given, family: str) -> None:
    if not fields.get("l1_reg") and "l1_reg" not in space:
        return
    if family in LINEAR and "optimizer" not in given:
        fields["optimizer"] = "sgd"
    own = family in WIDE and fields.get("linear_optimizer") != ""
    name, default = ("linear_optimizer", "adagrad") if own else ("optimizer", "adam")
    searched = space.get(name)
    listed = searched.values if isinstance(searched, Choice) else (fields.get(name, default),)
    unfit = [str(name) for name in listed if name not in PROXIMAL]
    if unfit:
        raise BindError(
            f"l1_reg goes with optimizer {' or '.join(PROXIMAL)}, found {', '.join(unfit)}",
            at=given["l1_reg"].name_at,
            hint=f"set {name} = 'sgd': its proximal step sets weights to exactly 0",
        )


def _check_warm_start(fields: Fields, space: Mapping[str, Dimension], given: Given) -> None:
    if not fields.get("warm_start"):
        return
    if space or fields.get("num_trials", 1) > 1:
        raise BindError(
            "warm_start continues one model, it does not go with a search over hyper-parameters",
            at=given["warm_start"].name_at,
            hint="fix every option, or search without warm_start",
        )
    if fields.get("split.method") == "k_fold":
        raise BindError(
            "warm_start does not go with data_split_method 'k_fold': the model has learnt from "
            "the rows that the folds would evaluate on",
            at=given["warm_start"].name_at,
            hint="hold rows out in the query and look at ML.EVALUATE(MODEL m, (SELECT …))",
        )


def _check_groups(fields: Fields, given: Given) -> None:
    """What does not go with one model per group."""
    if not fields.get("groups"):
        if "unseen_group" in given:
            raise BindError(
                "unseen_group goes with group_by", at=given["unseen_group"].name_at,
                hint="group_by = ['column']",
            )  # fmt: skip
        return
    at = given["group_by"].name_at
    if fields.get("warm_start"):
        raise UnsupportedError("warm_start does not go with group_by: groups begin anew", at=at)
    if fields.get("shard_order", "shared") != "shared":
        raise UnsupportedError("group_by visits shards in the shared order", at=at)
    for name, one in (("executor", "in_process"), ("shard_order", "shared")):
        if fields.get(name, one) not in ("auto", one):
            raise UnsupportedError(
                f"group_by does not go with {name} '{fields[name]}': groups train in one process, "
                "all at once", at=given[name].name_at, hint=f"leave {name} out",
            )  # fmt: skip
    if fields.get("split.method") == "k_fold":
        raise UnsupportedError(
            "group_by does not go with data_split_method 'k_fold'", at=at,
            hint="hold rows out of every group with data_split_eval_fraction",
        )  # fmt: skip


def _check_loss(fields: Fields, given: Given) -> None:
    """A loss of classes is not one of numbers."""
    loss, task = fields.get("loss"), fields["task"]
    if not loss or not task or loss.startswith(OWN_LOSS):
        return
    allowed = OF_CLASSES if task == CLASSIFICATION else OF_NUMBERS
    if loss not in allowed:
        raise BindError(
            f"loss '{loss}' is not of a {task}; there are {', '.join(allowed)}",
            at=given["loss"].value_at,
            hint=near(loss, allowed),
        )


def _check_functions(
    fields: Fields, space: Mapping[str, Dimension], given: Given, family: str
) -> None:
    """Where users' own losses, schedules, optimisers and metrics go."""
    for name in ("loss", "optimizer", "lr_schedule", "hparam_tuning_objectives"):
        field = {"lr_schedule": "schedule", "hparam_tuning_objectives": "metric"}.get(name, name)
        searched = space.get(field)
        found = searched.values if isinstance(searched, Choice) else (fields.get(field),)
        if not any(OWN_LOSS in str(value) for value in found):
            continue
        if fields.get("groups"):
            raise UnsupportedError(
                f"group_by takes {name} by name, not functions", at=given[name].value_at,
                hint="train a model for each group in a loop",
            )  # fmt: skip
        if name == "optimizer" and family != PYTHON:
            raise UnsupportedError(
                f"{fields['model_type']} takes optimizers by name, not functions",
                at=given[name].value_at,
                hint="write the network as a function that returns a torch.nn.Module",
            )


def _check_schedule(fields: Fields, space: Mapping[str, Dimension], given: Given) -> None:
    """What says how a schedule falls goes with one that falls so."""
    searched = space.get("schedule")
    found = searched.values if isinstance(searched, Choice) else (fields.get("schedule", CONSTANT),)
    for name, schedules in (
        ("lr_decay", ("exponential", "step")), ("lr_decay_epochs", ("step",)),
    ):  # fmt: skip
        if name in given and not set(schedules) & set(found):
            raise BindError(
                f"{name} goes with lr_schedule {' or '.join(schedules)}, found "
                f"{', '.join(map(str, found))}",
                at=given[name].name_at,
            )


def _check_metric(fields: Fields, given: Given) -> None:
    task = fields["task"]
    if not task:
        return
    metric = fields.setdefault("metric", DEFAULT_METRIC[task])
    allowed = METRICS["binary" if task == CLASSIFICATION else task]
    if metric not in allowed and not reference_of(metric):
        raise BindError(
            f"`{metric}` is no metric of {fields['model_type']} models; there are "
            f"{', '.join(allowed)}",
            at=given["hparam_tuning_objectives"].value_at,
        )


def _check_bottleneck(fields: Fields, space: Mapping[str, Dimension], given: Given) -> None:
    searched = space.get("hidden_units")
    listed: Any = searched.values if isinstance(searched, Choice) else [fields.get("hidden_units")]
    for layers in listed:
        if layers is not None and len(layers) % 2 == 0:
            raise BindError(
                f"hidden_units of an autoencoder are an odd number of layers, found {list(layers)}",
                at=given["hidden_units"].value_at,
                hint="the middle one has the latent columns: [32, 4, 32]",
            )


def _check_solved(fields: Fields, given: Given, family: str) -> None:
    """Of models that learn without a label."""
    custom = fields.get("solve.init") == "custom"
    if custom != bool(fields.get("solve.init_column")):
        named = given.get("kmeans_init_col", given.get("kmeans_init_method"))
        raise BindError(
            "kmeans_init_method 'custom' and kmeans_init_col go together",
            at=named.name_at if named else None,
        )
    if "solve.components" in fields and "solve.share" in fields:
        raise BindError(
            "num_principal_components and pca_explained_variance_ratio exclude each other",
            at=given["pca_explained_variance_ratio"].name_at,
        )
    metric = fields.get("metric", CLUSTER_OBJECTIVE)
    if family == KMEANS and metric != CLUSTER_OBJECTIVE:
        raise BindError(
            f"`{metric}` is no metric of kmeans models; there is {CLUSTER_OBJECTIVE}",
            at=given["hparam_tuning_objectives"].value_at,
        )
