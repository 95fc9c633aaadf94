"""Stores a model that is larger than this process may write; run as a script."""

from __future__ import annotations

import sys

from gradbase.engines import connect
from gradbase.errors import StoreError
from gradbase.store import Store, TrialRecord

from .samples import program, record, weights


def main(path):
    store = Store.open(connect(path))
    store.commit(record("small"))
    model, params = program([weights(1, 450, 4), weights(2, 500, 450), weights(3, 1, 500)])
    large = TrialRecord(1, "SUCCEEDED", model=model, params=params)
    try:
        store.commit(record("large", [large], best_trial=1))
    except StoreError as error:
        sys.stdout.write(str(error))
    assert store.names() == ("small",)
    assert store.model("small").outputs[0].params
    assert store.fsck().ok


if __name__ == "__main__":
    main(sys.argv[1])
