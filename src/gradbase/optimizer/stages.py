"""The order of the rules, as data, with the reason on each line."""

from __future__ import annotations

from dataclasses import dataclass

from gradbase.optimizer.rule import Rule
from gradbase.optimizer.rules.choose_reading import choose_reading
from gradbase.optimizer.rules.choose_representation import choose_representation
from gradbase.optimizer.rules.choose_workers import choose_workers
from gradbase.optimizer.rules.drop_idle_features import drop_idle_features
from gradbase.optimizer.rules.drop_unused_predictions import drop_unused_predictions
from gradbase.optimizer.rules.extract_analytics import extract_analytics
from gradbase.optimizer.rules.extract_predictions import extract_predictions
from gradbase.optimizer.rules.fold_known_values import fold_known_values
from gradbase.optimizer.rules.fold_settled_units import fold_settled_units
from gradbase.optimizer.rules.fuse_fits import fuse_fits
from gradbase.optimizer.rules.fuse_layers import fuse_layers
from gradbase.optimizer.rules.merge_filters import merge_filters
from gradbase.optimizer.rules.merge_projects import merge_projects
from gradbase.optimizer.rules.order_conjuncts import order_conjuncts
from gradbase.optimizer.rules.place_preprocessing import place_preprocessing
from gradbase.optimizer.rules.predict_distinct import predict_distinct
from gradbase.optimizer.rules.prune_columns import prune_columns
from gradbase.optimizer.rules.push_filter_below_join import push_filter_below_join
from gradbase.optimizer.rules.push_filter_below_predict import push_filter_below_predict
from gradbase.optimizer.rules.push_filter_below_project import push_filter_below_project
from gradbase.optimizer.rules.push_limit_below_predict import push_limit_below_predict
from gradbase.optimizer.rules.push_limit_below_project import push_limit_below_project
from gradbase.optimizer.rules.push_predict_below_join import push_predict_below_join
from gradbase.optimizer.rules.push_topk_below_predict import push_topk_below_predict
from gradbase.optimizer.rules.remove_identity_project import remove_identity_project
from gradbase.optimizer.rules.remove_joins import remove_joins
from gradbase.optimizer.rules.share_predictions import share_predictions
from gradbase.optimizer.rules.share_scan import share_scan
from gradbase.optimizer.rules.split_layer_over_join import split_layer_over_join


@dataclass(frozen=True)
class Stage:
    """Rules that run together, over and over, until nothing changes or `passes` are done."""

    name: str
    rules: tuple[Rule, ...]
    top_down: bool = True
    passes: int = 1


STAGES = (
    # Predictions are still expressions: the order of conjuncts becomes the order of Predicts.
    Stage("order", (order_conjuncts,)),
    # Children first, as a prediction may read another one's result. Runs with the optimiser off.
    # Then what is learnt from the rows of a query: a prediction may be learnt from.
    Stage("lower", (extract_predictions, extract_analytics), top_down=False),
    Stage(
        "move",
        (
            merge_filters,  # first, so that all conjuncts of a block move in one go
            merge_projects,  # takes away the projections that lowering leaves between operators
            push_filter_below_join,  # both sides of a join become smaller, predictions there too
            push_filter_below_project,  # brings filters next to predictions
            push_filter_below_predict,  # fewer rows are predicted
            share_predictions,  # after the filters, so that what is shared is the filtered one
            push_limit_below_project,  # brings limits next to predictions
            push_limit_below_predict,  # after the filters: a limit never passes one
            push_topk_below_predict,  # the same
        ),
        passes=30,
    ),
    Stage(
        "narrow",
        (
            drop_unused_predictions,  # first: its features may be what nobody else reads
            prune_columns,  # puts projections above scans, step by step
            merge_projects,  # of which these two remove what is not needed any more
            remove_identity_project,
        ),
        passes=30,
    ),
    # After narrowing: the columns that a join still carries are what taking apart saves. First what
    # is about whole predictions, then about their first layers.
    # Fused first: a scaler in front of a layer hides which columns the layer reads.
    # Ranges after values: what is in a bias has no range. Idle features last: what is folded is not
    # read any more, branches that are cut and units that are gone test nothing.
    Stage("fold", (fuse_layers, fold_known_values, fold_settled_units, drop_idle_features)),
    Stage(
        "narrow",
        (
            prune_columns,
            merge_projects,
            remove_identity_project,
            remove_joins,  # a join may be all that read a column of another
        ),
        passes=30,
    ),
    Stage("below joins", (push_predict_below_join, split_layer_over_join)),
    # Decides which columns reach a prediction: less may be read after it. Runs with the optimiser
    # off.
    Stage("place", (place_preprocessing,)),
    Stage("narrow again", (prune_columns, merge_projects, remove_identity_project), passes=30),
    # After narrowing: the fewer columns, the more rows are equal.
    Stage("repeats", (predict_distinct,)),
    # After narrowing: relations are compared by what is left of them, and cost what that costs.
    # Reading before groups: what is said of a group is said of fits on these very datasets.
    Stage("train", (share_scan, choose_reading, fuse_fits)),
    # Last: choices depend on rows, columns and groups as they are now. Runs with the optimiser off.
    Stage("physical", (choose_representation, choose_workers)),
)
"""What `optimize` does."""


def all_rules() -> tuple[Rule, ...]:
    """Every rule once, in order of its first turn."""
    return tuple(dict.fromkeys(rule for stage in STAGES for rule in stage.rules))
