"""A convolutional network of your own on images that are vectors of a table.

Data: 1,797 digits of 8 x 8 pixels, from scikit-learn. Run: ``python examples/02_own_network.py``.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits
from torch import nn

import gradbase as gb


def net(config: dict) -> nn.Module:
    """Tensor[B, 64] to Tensor[B, 10]; sizes that depend on the data are in `config`."""
    channels = config["channels"]
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(channels * 16, config["n_outputs"]),
    )


def load(db: gb.Session) -> None:
    """Make the table: an image is a FLOAT[64]."""
    data = load_digits()
    pixels = pa.FixedSizeListArray.from_arrays(data.data.astype(np.float32).ravel(), 64)
    columns = {"id": range(len(pixels)), "image": pixels, "digit": data.target}
    db.register("arrays", pa.table(columns))
    db.sql("CREATE TABLE digits AS SELECT * FROM arrays")


def main() -> None:
    """Search over the width and the learning rate, then use the best network from SQL."""
    with gb.connect() as db:
        load(db)
        search = gb.search(
            net, channels=gb.choice(4, 8), lr=gb.choice(0.003, 0.01), epochs=5, metric="accuracy",
            eval_fraction=0.2, row_key=["id"], seed=7,
        )  # fmt: skip
        study = db.table("SELECT * FROM digits WHERE id % 10 > 0").fit(
            search, target="digit", name="reader"
        )
        print(study.trials[["trial", "channels", "learn_rate", "accuracy", "best"]])
        print("accuracy on rows never seen:", study.best.score("FROM digits WHERE id % 10 = 0"))

        print("Which digits are taken for which?")
        db.sql("""
            SELECT digit, PREDICT(reader, *) AS read_as, count(*) AS images
            FROM digits GROUP BY ALL HAVING digit <> read_as ORDER BY images DESC LIMIT 5
        """).show()


if __name__ == "__main__":
    main()
