"""ALTER, DESCRIBE and DROP MODEL, and the addresses of versions."""

from __future__ import annotations

import pytest

from gradbase.errors import BindError, ParseError
from gradbase.frontend.addresses import check_name, parse_address
from gradbase.frontend.model_statements import (
    AlterModel,
    DescribeModel,
    DropAlias,
    DropModel,
    PruneVersions,
    SetAlias,
    SetOptions,
    SetVersion,
)
from gradbase.frontend.statements import Native, parse_statement


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("churn", ("churn", None)),
        ("churn@2", ("churn", 2)),
        ("churn@champion", ("churn", "champion")),
        ("a@b@3", ("a@b", 3)),
    ],
)
def test_addresses_in_one_text(text, expected):
    """Python's, and quoted identifiers."""
    found = parse_address(text)
    assert (found.name, found.version) == expected


@pytest.mark.parametrize("text", ["churn@", "@2", "@"])
def test_half_an_address_is_none(text):
    """Both sides of the @ are needed."""
    with pytest.raises(ParseError, match="names no version"):
        parse_address(text)


def test_names_hold_no_version():
    """Of models that are made."""
    assert check_name("churn") == "churn"
    with pytest.raises(ParseError, match="cannot be a model's name"):
        check_name("churn@2")


@pytest.mark.parametrize(
    ("written", "name", "version"),
    [
        ("churn", "churn", None),
        ("churn@2", "churn", 2),
        ("churn @ 2", "churn", 2),
        ("churn@champion", "churn", "champion"),
        ('churn@"blue-green"', "churn", "blue-green"),
        ('"my churn"@2', "my churn", 2),
        ('"churn@2"', "churn", 2),
        ("`churn@champion`", "churn", "champion"),
        ("`churn`@2", "churn", 2),
        ("shop.churn", "shop.churn", None),
        ("shop.churn@2", "shop.churn", 2),
        ("`my-project`.shop.churn@champion", "my-project.shop.churn", "champion"),
        ("`my-project.shop.churn@2`", "my-project.shop.churn", 2),
        ("shop.`churn@2`", "shop.churn", 2),
    ],
)
def test_addresses_in_sql(written, name, version):
    """Wherever a version may be named, however it is quoted."""
    for found in (
        parse_statement(f"DESCRIBE MODEL {written}"),
        parse_statement(f"desc model {written};"),
        parse_statement(f"DROP MODEL IF EXISTS {written}"),
    ):
        assert isinstance(found, DescribeModel | DropModel)
        assert (found.model.name, found.model.version) == (name, version)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("SET ALIAS champion = 2", SetAlias("champion", 2)),
        ('set alias "blue-green" = champion', SetAlias("blue-green", "champion")),
        ("SET ALIAS a = latest", SetAlias("a", "latest")),
        ("DROP ALIAS champion", DropAlias("champion", if_exists=False)),
        ("DROP ALIAS IF EXISTS champion", DropAlias("champion", if_exists=True)),
        ("SET VERSION 1", SetVersion(1)),
        ("SET VERSION = champion", SetVersion("champion")),
        ("PRUNE VERSIONS KEEP 2", PruneVersions(2)),
        ("SET OPTIONS (description = 'who leaves')", SetOptions({"description": "who leaves"})),
        ("SET OPTIONS (description = NULL,)", SetOptions({"description": None})),
        (
            "SET OPTIONS (Labels = [STRUCT('a', 'b'), STRUCT('c' AS k, 'd' AS v)])",
            SetOptions({"labels": {"a": "b", "c": "d"}}),
        ),
        ("SET OPTIONS (labels = [])", SetOptions({"labels": {}})),
        (
            "SET OPTIONS (expiration_timestamp = greatest(now(), t[1]) + INTERVAL 7 DAY)",
            SetOptions(
                {"expiration_timestamp": "greatest(now(), t[1]) + INTERVAL 7 DAY"},
                "greatest(now(), t[1]) + INTERVAL 7 DAY",
            ),
        ),
    ],
)
@pytest.mark.parametrize("if_exists", [False, True])
def test_alter_model(text, change, if_exists):
    """Every form, with and without IF EXISTS."""
    found = parse_statement(f"ALTER MODEL {'IF EXISTS ' * if_exists}churn {text};")
    assert isinstance(found, AlterModel)
    assert (found.model.name, found.if_exists, found.change) == ("churn", if_exists, change)


@pytest.mark.parametrize(
    ("statement", "error", "text"),
    [
        ("ALTER MODEL churn@2 SET VERSION 1", ParseError, r"found version `2` of `churn`(.|\n)*@2"),
        ("ALTER MODEL churn", ParseError, r"what to change, found the end(.|\n)*SET ALIAS name"),
        ("ALTER MODEL churn SET NAME x", ParseError, r"what to change, found `SET`"),
        ("ALTER MODEL churn RENAME TO x", ParseError, r"cannot be renamed"),
        ("ALTER MODEL churn SET ALIAS champion", ParseError, r"`=` and a version"),
        ("ALTER MODEL churn SET ALIAS 2 = 1", ParseError, r"expected an alias, found `2`"),
        ("ALTER MODEL churn SET ALIAS a = 1.5", ParseError, r"number or alias"),
        (
            "ALTER MODEL churn SET VERSION",
            ParseError,
            r"number or alias of a version, found the end",
        ),
        ("ALTER MODEL churn SET VERSION 1 2", ParseError, r"should end here"),
        ("ALTER MODEL churn PRUNE VERSIONS", ParseError, r"KEEP and how many"),
        ("ALTER MODEL churn PRUNE VERSIONS KEEP x", ParseError, r"how many versions are kept"),
        ("ALTER MODEL churn SET OPTIONS ()", ParseError, r"expected an option(.|\n)*description"),
        (
            "ALTER MODEL churn SET OPTIONS (a = 1)",
            BindError,
            r"no option `a` that could be changed",
        ),
        (
            "ALTER MODEL churn SET OPTIONS (learn_rate = 1)",
            BindError,
            r"no option `learn_rate`(.|\n)*CREATE OR REPLACE",
        ),
        (
            "ALTER MODEL churn SET OPTIONS (description = 'a', description = 'b')",
            BindError,
            r"given twice",
        ),
        ("ALTER MODEL churn SET OPTIONS (description = 7)", BindError, r"text or NULL, found 7"),
        ("ALTER MODEL churn SET OPTIONS (labels = 'a')", BindError, r"pairs of texts(.|\n)*STRUCT"),
        ("ALTER MODEL churn SET OPTIONS (labels = ['a'])", BindError, r"pairs of texts"),
        ("ALTER MODEL churn SET OPTIONS (kms_key_name = 'a')", BindError, r"BigQuery's cloud"),
        ("ALTER MODEL churn SET OPTIONS (expiration_timestamp = )", ParseError, r"expected a time"),
        ("ALTER MODEL churn SET OPTIONS (expiration_timestamp = 1", ParseError, r"ends too early"),
        ("DESCRIBE MODEL a b", ParseError, r"should end here"),
        ("DROP MODEL churn 2", ParseError, r"should end here"),
        ("CREATE MODEL m@2 OPTIONS () AS FROM t", ParseError, r"leave @2 out"),
        ('CREATE MODEL "m@2" OPTIONS () AS FROM t', ParseError, r"leave @2 out"),
    ],
)
def test_what_cannot_be_read(statement, error, text):
    """Says what was expected, found and to do."""
    with pytest.raises(error, match=text):
        parse_statement(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT @ -5, @x FROM t",
        "PREPARE p AS SELECT @ $1 FROM models",
        "ALTER TABLE model ADD COLUMN x INT",
        "DESCRIBE model",
        "DESCRIBE model.t",
        "SELECT `predict(m, *)`, `churn@2` FROM `ML.PREDICT(MODEL m, TABLE t)`",
    ],
)
def test_statements_of_the_engine_stay_its_own(statement):
    """Its @ operator, its backticks, its tables called model."""
    assert parse_statement(statement) == Native(statement)
