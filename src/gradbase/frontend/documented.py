"""What the reference says of statements and functions: one entry each, with an example that runs.

The pages of docs/reference are made of these; a word of the parser without an entry stops that.
"""

from __future__ import annotations

from dataclasses import dataclass

REST = "…"
"""As a column's name: the columns that the example has beyond those before it."""

_DONE = (("done", "TRUE"),)
_SUMMARY = (
    ("model", "its name"),
    ("version", "the new version's number"),
    ("trials", "how many were begun"),
    ("failed", "how many of them failed"),
    ("best_trial", "the trial that the model is"),
    ("metric", "what trials were compared by"),
    ("value", "its value for the best trial"),
    ("seconds", "of the whole statement"),
)
_FACTS = (
    ("section", "what the row is about: model, feature, label, class, option, metric, …"),
    ("position", "order inside the section"),
    ("name", "of the feature, option, metric, …"),
    ("type", "of the column or value"),
    ("value", "as text"),
    ("details", "such as how a feature goes into the network"),
)


@dataclass(frozen=True)
class Entry:
    """One statement or function.

    Parameters
    ----------
    name : str
        The words that it begins with.
    syntax, doc : str
        The form, with [optional] and {one | of}; meaning in a few sentences.
    example : str
        SQL that runs on the tables and models of `TABLES` and `MODELS`.
    columns : tuple of (str, str)
        Columns of the example's last result, and what they hold. A name may have ``<label>`` for a
        part that depends on the model; `REST` comes last.
    before : str
        Python that runs before the example.
    """

    name: str
    syntax: str
    doc: str
    example: str
    columns: tuple[tuple[str, str], ...] = ()
    before: str = ""


TABLES = """\
CREATE TABLE customers AS
SELECT i AS id, DATE '2025-01-01' + i::INT AS joined, 18 + (i * 37) % 60 AS age, (i * 7919) % 500 / 10.0 AS fee,
       CASE WHEN i % 13 > 0 THEN ['north', 'south', 'east'][i % 3 + 1] END AS region,
       ['tea', 'milk', 'tea and milk'][i % 3 + 1] AS note,
       CASE WHEN (i * 7919) % 500 / 10.0 + (i * 37) % 60 / 2 + (i * 31) % 17 > 45 THEN 'yes' ELSE 'no' END AS churned
FROM range(600) t(i);

CREATE TABLE visits AS
SELECT i AS id, (i * 37) % 60 AS minutes, (i * 7919) % 500 / 10.0 AS pages, 2.0 * ((i * 37) % 60) + i % 7 AS spent FROM range(600) t(i);
"""
"""What examples run on."""

MODELS = """\
CREATE MODEL churn
OPTIONS (model_type = 'logistic_reg', input_label_cols = ['churned'], row_key = ['id'], learn_rate = 0.1, max_epochs = 3)
AS SELECT * EXCLUDE (joined, note) FROM customers;

CREATE OR REPLACE MODEL churn
OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['churned'], row_key = ['id'], hidden_units = [8],
         learn_rate = HPARAM_CANDIDATES([0.01, 0.1]), max_epochs = 3)
AS SELECT * EXCLUDE (joined, note) FROM customers;
"""
"""Two versions of a model that examples use."""

STATEMENTS = (
    Entry(
        "CREATE MODEL",
        "CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name\n[TRANSFORM (expression AS column, …)]\n"
        "OPTIONS (model_type = '…', option = value, …)\nAS query",
        "Trains a model on the rows of the query and keeps the best trial under the name. An option "
        "with `HPARAM_RANGE(low, high)` or `HPARAM_CANDIDATES([…])` is searched over. `OR REPLACE` "
        "adds a version; the former ones stay. All columns but the label are features, those of "
        "`row_key` aside. Options are on [a page of their own](options.md); `TRANSFORM` takes the "
        "[preprocessing functions](preprocessing.md). `AS (training_data AS (query))` means the same.",
        "CREATE OR REPLACE MODEL shop.leaving\n"
        "TRANSFORM (ML.ROBUST_SCALER(age) OVER () AS age, fee, upper(region) AS region, churned)\n"
        "OPTIONS (model_type = 'dnn_classifier', input_label_cols = ['churned'], max_epochs = 2,\n"
        "         hidden_units = HPARAM_CANDIDATES([STRUCT([8]), STRUCT([16, 8])]),\n"
        "         learn_rate = HPARAM_RANGE(0.003, 0.1), num_trials = 4)\n"
        "AS SELECT * FROM customers",
        _SUMMARY,
    ),
    Entry(
        "CREATE MODEL of a file",
        "CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name\nOPTIONS (model_type = {'onnx' | 'torch'}, "
        "model_path = 'file'[, features = ['column', …]]\n         [, output = 'name'][, classes = "
        "[…]][, label = 'column'])",
        "Makes a model of an ONNX file, or of an exported program of torch (`.pt2`), without a query "
        "and without running anything in the file. See [models made elsewhere](../importing.md).",
        "CREATE OR REPLACE MODEL copied\n"
        "OPTIONS (model_type = 'onnx', model_path = 'churn.onnx', output = 'predict_proba')",
        (
            ("model", "its name"),
            ("version", "the new version's number"),
            ("outputs", "columns that it can give"),
            ("weight_bytes", "size of its constants"),
            ("seconds", "of the whole statement"),
        ),
        before='db.model("churn").export("churn.onnx")',
    ),
    Entry(
        "ALTER MODEL",
        "ALTER MODEL [IF EXISTS] name\n{ SET ALIAS alias = version\n| DROP ALIAS [IF EXISTS] alias\n"
        "| SET VERSION version\n| PRUNE VERSIONS KEEP count\n| SET OPTIONS (description = 'text', "
        "labels = [STRUCT('key', 'text'), …], expiration_timestamp = time) }",
        "Changes what a name means and what is said of a model; weights never change. A version is a "
        "number, an alias, or `latest`. `SET VERSION` decides what the bare name means; `PRUNE` "
        "deletes all but the newest `count` versions, the current one and those with an alias.",
        "ALTER MODEL churn SET ALIAS champion = 1;\nALTER MODEL churn SET VERSION champion;\n"
        "ALTER MODEL churn SET VERSION latest;\n"
        "ALTER MODEL churn SET OPTIONS (description = 'who leaves', labels = [STRUCT('team', 'crm')],\n"
        "                               expiration_timestamp = now() + INTERVAL 30 DAY);\n"
        "ALTER MODEL churn SET ALIAS old = 1;\nALTER MODEL churn DROP ALIAS IF EXISTS old;\n"
        "ALTER MODEL churn PRUNE VERSIONS KEEP 2",
        (("version", "of `PRUNE VERSIONS`: each that was deleted; else one column `done`"),),
    ),
    Entry(
        "DESCRIBE MODEL",
        "{DESCRIBE | DESC} MODEL name[@version]",
        "Everything that is known of a version, a row per fact. `ML.DESCRIBE` gives the same rows.",
        "DESCRIBE MODEL churn@1",
        _FACTS,
    ),
    Entry(
        "SHOW MODELS",
        "SHOW MODELS",
        "The models of the database, with their current versions.",
        "SHOW MODELS",
        (
            ("model", "its name"),
            ("version", "the current one"),
            ("model_type", "as it was given"),
            ("label", "column that is predicted"),
            ("trials", "of the current version"),
            ("metric", "what trials were compared by"),
            ("value", "its value for the best trial"),
            ("best_trial", "the trial that the version is"),
            ("created", "when the current version was trained, UTC"),
            ("versions", "how many there are"),
            ("aliases", "as `champion = 1, …`"),
            ("description", "set by `ALTER MODEL`"),
            ("expires", "when the model can no longer be used, UTC"),
        ),
    ),
    Entry(
        "EXPORT MODEL",
        "EXPORT MODEL name[@version] { TO 'file' | OPTIONS (URI = 'file'[, TRIAL_ID = number]) }",
        "Writes a version to a file: `.onnx` with the preprocessing inside, one named input per "
        "column, or `.pt2` for PyTorch. See [models in other programs](../export.md).",
        "EXPORT MODEL churn@1 TO 'churn.onnx'",
        (("file", "where it was written"), ("bytes", "its size")),
    ),
    Entry(
        "EXPORT MODEL to SQL",
        "EXPORT MODEL name[@version] TO SQL [VIEW view] [OPTIONS (DIALECT = 'postgres'[, TRIAL_ID = "
        "number])]\n[FROM table | AS query]",
        "Makes a view of the rows with the model's predictions as plain SQL, preprocessing included: "
        "it needs neither gradbase nor Python. For linear models, perceptrons and trees. Left out, the "
        "view is called `<name>_predictions` and the rows are those of the training query. With "
        "`DIALECT` the text is returned, for another engine, and no view made.",
        "EXPORT MODEL churn@1 TO SQL VIEW churn_sql FROM customers;\n"
        "SELECT id, predicted_churned, predicted_churned_proba FROM churn_sql",
        (
            ("id", "a column of the rows"),
            ("predicted_churned", "what `PREDICT` gives"),
            ("predicted_churned_proba", "what `PREDICT_PROBA` gives; of several classes one column each"),
        ),
    ),
    Entry(
        "EXPLAIN",
        "EXPLAIN [VERBOSE | ANALYZE] {CREATE MODEL … | query with predictions}",
        "The plan, with estimated rows, bytes and seconds; `VERBOSE` adds the plan after each "
        "[rule](rules.md), `ANALYZE` runs the statement and adds what was measured: rows, bytes and "
        "seconds of the operators whose rows came past, kept programs, leases, overlap.",
        "EXPLAIN SELECT count(*) FROM customers WHERE region = 'north' AND PREDICT_PROBA(churn, *) > 0.5",
        (("plan", "a line of the plan"),),
    ),
    Entry(
        "RESUME SEARCH",
        "RESUME SEARCH name",
        "Goes on with the latest search for a model, which was interrupted or killed, to bitwise the "
        "result that it would have had. See [searching](../search.md).",
        "RESUME SEARCH own",
        _SUMMARY,
        before='''\
import torch

built = []


def net(config):
    """A network whose search is interrupted while it builds the fifth one."""
    built.append(config["width"])
    if len(built) == 5:
        raise KeyboardInterrupt
    return torch.nn.Sequential(
        torch.nn.Linear(config["n_inputs"], config["width"]), torch.nn.ReLU(), torch.nn.Linear(config["width"], config["n_outputs"])
    )


try:
    rows = db.table("SELECT id, age, fee, churned FROM customers")
    rows.fit(net, target="churned", name="own", row_key=["id"], procedure="asha", parallel=2, trials=6,
             epochs=3, width=gb.randint(4, 8), early_stop=False)
except gb.errors.CancelledError as error:
    print(error)
''',
    ),
    Entry(
        "ALTER SEARCH",
        "ALTER SEARCH name [IN 'path'] {STOP [TRIAL n, …] | RESUME TRIAL n, … | ADD TRIAL OPTIONS (…)"
        " | CLONE TRIAL n [OPTIONS (…)] [WITHOUT WEIGHTS]}",
        "Leaves a message to the process that runs the search for a model, or with `IN` one of "
        "another database: it takes effect when an epoch ends. `STOP` alone ends all of it; see "
        "[searching](../search.md#while-a-search-runs).",
        "ALTER SEARCH endless STOP",
        (("search", "the model"), ("run", "see `SHOW SEARCHES`"), ("status", "now")),
        before="""\
import threading
import time


def train():
    rows = db.table("SELECT id, age, fee, churned FROM customers")
    try:
        rows.fit(gb.mlp([4]), target="churned", name="endless", epochs=10_000_000, early_stop=False)
    except gb.errors.CancelledError as error:
        print(error)


threading.Thread(target=train).start()
while "endless" not in db.sql("SHOW SEARCHES").arrow()["model"].to_pylist():
    time.sleep(0.01)
""",
    ),
    Entry(
        "SHOW TRIALS",
        "SHOW TRIALS OF SEARCH name [IN 'path']",
        "The trials of the latest search for a model as they are now, also while it runs.",
        "SHOW TRIALS OF SEARCH own",
        (
            ("trial", "its number"),
            ("status", "RUNNING, STOPPED, SUCCEEDED, FAILED; PAUSED between two rounds of a group"),
            ("epochs", "that it has had"),
            (REST, "hyper-parameters, losses and metrics"),
        ),
    ),
    Entry(
        "SHOW SEARCHES",
        "SHOW SEARCHES [IN 'path']",
        "Every training of the database, finished or not; the interrupted ones can be resumed. "
        "`IN 'shop.duckdb'`: of another database, which may be in use by another process.",
        "SHOW SEARCHES",
        (
            ("model", "what is or was trained"),
            ("run", "name of its folder in `<database>.gradbase/runs/`"),
            ("status", "RUNNING, INTERRUPTED, DONE or FAILED"),
            ("started", "UTC"),
            ("finished", "UTC"),
            ("version", "that was made"),
            ("error", "why it ended without a version"),
        ),
    ),
    Entry(
        "DROP MODEL",
        "DROP MODEL [IF EXISTS] name[@version]",
        "Deletes a model with all its versions, or one version.",
        "DROP MODEL IF EXISTS shop.leaving",
        _DONE,
    ),
    Entry(
        "SET",
        "SET gradbase.setting {= | TO} {value | DEFAULT}\nRESET gradbase.setting",
        "Changes a [setting](settings.md) of this session.",
        "SET gradbase.exactness = 'bitwise';\nRESET gradbase.exactness",
        _DONE,
    ),
)  # fmt: skip
"""In the order of the page."""
