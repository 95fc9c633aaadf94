"""What a search goes through where nobody says it."""

from __future__ import annotations

from collections.abc import Mapping

from gradbase.frontend.cursor import Candidates, Range
from gradbase.frontend.option_table import (
    AUTOENCODER,
    KMEANS,
    LINEAR,
    NETWORKS,
    OPTIMIZERS,
    WIDE,
)

_OF_NETWORKS: Mapping[str, Range | Candidates] = {
    "learn_rate": Range(1e-5, 0.1),
    "optimizer": Candidates(OPTIMIZERS),
    "batch_size": Range(16, 1024),
    "dropout": Range(0.0, 0.8),
    "l2_reg": Range(0.0, 10.0),
}
_OF_WIDE: Mapping[str, Range | Candidates] = {
    "batch_size": Range(16, 1024),
    "dropout": Range(0.0, 0.8),
    "l1_reg": Range(0.0, 10.0),
    "l2_reg": Range(0.0, 10.0),
}
_OF_LINEAR: Mapping[str, Range | Candidates] = {
    "l1_reg": Range(0.0, 10.0),
    "l2_reg": Range(0.0, 10.0),
}
DEFAULT_SPACES = {
    **dict.fromkeys((*NETWORKS, AUTOENCODER), _OF_NETWORKS),
    **dict.fromkeys(WIDE, _OF_WIDE),
    **dict.fromkeys(LINEAR, _OF_LINEAR),
    KMEANS: {"num_clusters": Range(2, 10)},
}
"""What num_trials alone searches; as in BigQuery, but for a learning rate that can be used."""
