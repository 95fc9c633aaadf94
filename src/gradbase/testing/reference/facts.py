"""Pages of settings, tables, errors and rules."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from gradbase import errors as errors_module
from gradbase.errors import GradbaseError
from gradbase.ir.facts import Settings
from gradbase.optimizer.stages import STAGES, all_rules
from gradbase.session.settings import FIELDS, VALUES
from gradbase.store.tables import MEANINGS, TABLES, columns, types
from gradbase.testing.reference.docstrings import as_markdown, items, sections
from gradbase.testing.reference.markdown import fenced, need, table
from gradbase.testing.reference.sql import CONNECT


def settings() -> Iterator[str]:
    """The page of settings."""
    need(set(FIELDS) ^ set(VALUES), "settings", "session/settings.py")
    parameters = items(sections(inspect.getdoc(Settings) or "")["Parameters"])
    meanings = {name: meaning for name, _, meaning in parameters}
    need(set(FIELDS.values()) - set(meanings), "settings", "the docstring of ir.facts.Settings")
    yield (
        "`SET gradbase.<name> = value` changes a setting for this session, `RESET gradbase.<name>` "
        "gives its default back. [Operations](../operations.md) says when one changes them."
    )
    yield fenced("python", CONNECT)
    for name, (values, example) in VALUES.items():
        default = getattr(Settings(), FIELDS[name])
        yield f"## {name}"
        yield meanings[FIELDS[name]]
        yield table(("", ""), [("allowed", values), ("default", _shown(default))])
        yield fenced("sql", f"SET gradbase.{name} = {example};\nRESET gradbase.{name}")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return str(value)
    return f"`'{value}'`" if value else "`''`"


def tables() -> Iterator[str]:
    """The page of the catalog."""
    need(set(TABLES) ^ set(MEANINGS), "tables", "store/tables.py")
    yield (
        "Models are rows of these tables, in schema `gradbase` of the database, which can be read like "
        "any others; write them with statements only. The schema is made by the first model. "
        "`gradbase.leases` and `gradbase.metrics` are [functions of the process](functions.md)."
    )
    yield fenced("python", CONNECT)
    create = "CREATE MODEL m OPTIONS (model_type = 'linear_reg') AS SELECT i AS x, 2 * i AS label FROM range(50) r(i)"
    yield fenced("sql", create)
    for name in TABLES:
        yield f"## gradbase.{name}"
        yield MEANINGS[name]
        pairs = zip(columns(name), types(name), strict=True)
        yield table(("column", "type"), [(f"`{n}`", t) for n, t in pairs])
        yield fenced("sql", f"SELECT * FROM gradbase.{name}")


def errors() -> Iterator[str]:
    """The page of errors."""
    yield (
        "All are in `gb.errors` and have `message`, `at` (where: the SQL with the place underlined, a "
        "column, a layer) and `hint` (what to do next)."
    )
    yield from as_markdown(inspect.getdoc(errors_module) or "")[:1]
    yield fenced("python", _CAUGHT)
    for name in errors_module.__all__:
        kind = getattr(errors_module, name)
        bases = [b.__name__ for b in kind.__bases__]
        yield f"## {name}"
        yield f"A {' and a '.join(f'`{b}`' for b in bases)}."
        yield from as_markdown(kind.__doc__ or "")
    known = {
        n
        for n, k in vars(errors_module).items()
        if inspect.isclass(k) and issubclass(k, GradbaseError)
    }
    need(known ^ set(errors_module.__all__), "errors", "errors.py")


_CAUGHT = f"""\
{CONNECT}
try:
    db.sql("CREATE MODEL m OPTIONS (model_type = 'linear_reg', learn_rat = 0.1) AS SELECT 1 AS label")
except gb.errors.BindError as error:
    print(error.message, error.at, error.hint, sep="\\n")
"""


def rules() -> Iterator[str]:
    """The page of rules."""
    yield (
        "What the optimiser may do to a plan, in the order of its stages. Exactness says how far "
        "results may move; `SET gradbase.disabled_rules = 'merge_filters'` leaves rules out, "
        "`SET gradbase.optimizer = off` all but the mandatory ones, and `EXPLAIN VERBOSE` shows the "
        "plan after each. [How to add one](../howto-rule.md)."
    )
    at = {r.name: stage.name for stage in reversed(STAGES) for r in stage.rules}
    for rule in all_rules():
        need([] if rule.doc else [rule.name], "rules", "optimizer/rules")
        yield f"## {rule.name}"
        for paragraph in as_markdown(rule.doc)[0].split("\n\n"):
            yield fenced("text", paragraph) if " -> " in paragraph else paragraph
        facts = [("stage", at[rule.name]), ("exactness", rule.exactness), ("source", rule.source)]
        facts.append(("mandatory", "yes" if rule.mandatory else "no"))
        if rule.requires:
            facts.append(("after", ", ".join(f"`{r}`" for r in rule.requires)))
        yield table(("", ""), facts)
