"""A search that stops bad trials early, is interrupted, and goes on to the same result.

Data: scikit-learn's diabetes set, a regression. Run: ``python examples/03_search.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sklearn.datasets import load_diabetes
from torch import nn

import gradbase as gb

built = 0
stop_at = 0


def net(config: dict) -> nn.Module:
    """One hidden layer; building network number `stop_at` stands for Ctrl-C or a power cut."""
    global built  # noqa: PLW0603 (counts in place of a clock)
    built += 1
    if built == stop_at:
        raise KeyboardInterrupt
    width = config["width"]
    return nn.Sequential(
        nn.Linear(config["n_inputs"], width), nn.GELU(), nn.Linear(width, config["n_outputs"])
    )


def fit(db: gb.Session, name: str) -> None:
    """8 trials: all train one epoch, the best of them three, the best of those nine."""
    search = gb.search(
        net, width=gb.randint(8, 64), lr=gb.loguniform(1e-3, 3e-1), trials=8, epochs=9,
        procedure="asha", parallel=2, metric="r2_score", early_stop=False, eval_fraction=0.2,
        row_key=["id"], seed=7,
    )  # fmt: skip
    db.table("patients").fit(search, target="progression", name=name)


def main() -> None:
    """Search, be interrupted, go on; and search once more without interruption."""
    global stop_at  # noqa: PLW0603
    with tempfile.TemporaryDirectory() as folder, gb.connect(str(Path(folder, "a.duckdb"))) as db:
        frame = load_diabetes(as_frame=True).frame.rename(columns={"target": "progression"})
        frame["id"] = range(len(frame))
        db.register("frame", frame)
        db.sql("CREATE TABLE patients AS SELECT * FROM frame")

        stop_at = 8
        try:
            fit(db, "interrupted")
        except gb.errors.CancelledError as error:
            print(error)
        db.sql("SHOW SEARCHES").show()

        study = db.resume("interrupted")
        print(study.trials.sort_values("r2_score", ascending=False).head(5))
        print(
            "epochs that trials trained:", sorted(len(t) for _, t in study.history.groupby("trial"))
        )

        fit(db, "straight")
        for name in ("interrupted", "straight"):
            print(name, db.model(name).score("patients"))


if __name__ == "__main__":
    main()
