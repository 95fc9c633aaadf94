"""Checks the options of CREATE MODEL against their table and makes a TrainingSpec of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradbase.errors import BindError, UnsupportedError, near
from gradbase.frontend import not_offered
from gradbase.frontend import option_table as table
from gradbase.frontend.cursor import Candidates, OptionValue, Range
from gradbase.frontend.default_spaces import DEFAULT_SPACES
from gradbase.frontend.option import Option
from gradbase.frontend.option_checks import PROXIMAL, check_together
from gradbase.frontend.option_parts import by_part
from gradbase.frontend.space import Choice, Dimension, IntUniform, LogUniform, Uniform
from gradbase.frontend.training import (
    CLASSIFICATION,
    RECONSTRUCTION,
    REGRESSION,
    SolveSpec,
    SplitSpec,
    TrainingSpec,
)
from gradbase.ir.learning import PythonNetwork

_TASKS = {
    **dict.fromkeys(table.CLASSIFIERS, CLASSIFICATION),
    **dict.fromkeys(table.REGRESSORS, REGRESSION),
    table.AUTOENCODER: RECONSTRUCTION,
}
_LOG_ZERO = 1e-14
"""What BigQuery takes for 0 as the lower end of a logarithmic range."""


def resolve(options: Mapping[str, OptionValue], model_type: str | None = None) -> TrainingSpec:
    """The training that `options` ask for.

    Parameters
    ----------
    options : mapping of str to OptionValue
        By name as written (any case).
    model_type : str, optional
        Used where the options hold none.

    Raises
    ------
    BindError
        An unknown option or one that does not fit the model type, a wrong type or value.
    UnsupportedError
        An option, value or model type that is known but not offered.

    Examples
    --------
    >>> resolve({"MODEL_TYPE": OptionValue("linear_reg"), "labels": OptionValue(["y"])}).label
    'y'
    """
    given = _by_own_name(options)
    kind = _model_type(given, model_type)
    family = table.PYTHON if kind.startswith("python:") else kind
    if family in table.WIDE:
        given = by_part(given)
    fields: dict[str, Any] = {"model_type": kind, "task": _TASKS.get(family, "")}
    if family in table.LINEAR:
        fields.update(hidden_units=(), learn_rate=table.LINEAR_LEARN_RATE)
    if family == table.PYTHON:
        fields["network"] = PythonNetwork(kind.partition(":")[2], "{}")
    space: dict[str, Dimension] = {}
    extra: dict[str, object] = {}
    for name, value in given.items():
        if name == "model_type":
            continue
        option = table.BY_NAME.get(name)
        if option is None and family == table.PYTHON and name not in not_offered.RESERVED:
            _take_own(name, value, space, extra)
        else:
            _take(_known(name, option, family, value), value, fields, space)
    if _searches_nothing(given, space):
        space.update(_default_space(fields, family))
    check_together(fields, space, given, family)
    _choose_procedure(fields, space)
    named = (table.BY_NAME[n].field for n in given if n in table.BY_NAME)
    following = (field for field in fields if field.startswith("linear_"))
    return _build(fields, space, extra, frozenset((*named, *following, *extra)))


def _by_own_name(options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Options by the name of their row in the table; an alias is not a second option."""
    given: dict[str, OptionValue] = {}
    for written, value in options.items():
        name = written.lower()
        own = table.BY_NAME[name].name if name in table.BY_NAME else name
        if own in given:
            raise BindError(f"option `{own}` is given twice", at=value.name_at)
        given[own] = value
    return given


def _build(
    fields: dict[str, Any],
    space: dict[str, Dimension],
    extra: dict[str, object],
    said: frozenset[str],
) -> TrainingSpec:
    split, solve = (
        {k.partition(".")[2]: fields.pop(k) for k in list(fields) if k.startswith(part)}
        for part in ("split.", "solve.")
    )
    return TrainingSpec(
        **fields, split=SplitSpec(**split), solve=SolveSpec(**solve), space=space, extra=extra,
        said=said,
    )  # fmt: skip


def check_model_type(options: Mapping[str, OptionValue]) -> None:
    """Raise where `options` name a model type that is not offered."""
    if "model_type" in options:
        _model_type(options, None)


def _model_type(given: Mapping[str, OptionValue], otherwise: str | None) -> str:
    found = given.get("model_type", OptionValue(otherwise))
    if not isinstance(found.value, str) or not found.value:
        raise BindError(
            "CREATE MODEL needs the option model_type",
            at=found.value_at,
            hint=f"there are {', '.join(table.OFFERED)} and 'python:module:function'",
        )
    if found.value.lower().startswith("python:"):
        reference = found.value[len("python:") :]
        if not all(part for part in reference.partition(":")):
            raise BindError(
                f"`{found.value}` names no function",
                at=found.value_at,
                hint="write 'python:package.module:function'",
            )
        return "python:" + reference
    kind = found.value.lower()
    if kind in not_offered.LATER_MODEL_TYPES:
        raise UnsupportedError(
            f"model_type '{kind}' is not offered yet",
            at=found.value_at,
            hint=not_offered.INSTEAD.get(
                kind, f"there are {', '.join(table.OFFERED)} and 'python:module:function'"
            ),
        )
    if kind not in table.OFFERED:
        raise BindError(
            f"there is no model_type '{found.value}'; there are {', '.join(table.OFFERED)} and "
            "'python:module:function'",
            at=found.value_at,
            hint=near(kind, (*table.OFFERED, *not_offered.LATER_MODEL_TYPES)),
        )
    return kind


def _searches_nothing(given: Mapping[str, OptionValue], space: Mapping[str, Dimension]) -> bool:
    """NUM_TRIALS alone; from Python, where no text is underlined, a search names its space."""
    trials = given.get("num_trials")
    if trials is None or trials.name_at is None or space:
        return False
    return isinstance(trials.value, int) and trials.value > 1


def _default_space(fields: Mapping[str, Any], family: str) -> dict[str, Dimension]:
    """What BigQuery searches where nobody says it; an option that is set stays as it is."""
    found: dict[str, Dimension] = {}
    for name, values in DEFAULT_SPACES.get(family, {}).items():
        option = table.BY_NAME[name]
        if option.field not in fields:
            found[option.field] = _dimension(option, OptionValue(values))
    exact = fields.get("strategy") == table.NORMAL_EQUATION
    if exact or (fields.get("linear_optimizer") or fields.get("optimizer", "sgd")) not in PROXIMAL:
        found.pop("l1_reg", None)
    return found


def _known(name: str, option: Option | None, family: str, value: OptionValue) -> Option:
    if name in not_offered.LATER_OPTIONS:
        raise UnsupportedError(
            f"option `{name}` is not offered yet", at=value.name_at, hint="leave it out"
        )
    if name in not_offered.CLOUD_OPTIONS:
        raise UnsupportedError(
            f"option `{name}` belongs to BigQuery's cloud", at=value.name_at, hint="leave it out"
        )
    if option is None:
        raise BindError(
            f"there is no option `{name}`", at=value.name_at, hint=near(name, table.BY_NAME)
        )
    if family not in option.models:
        raise BindError(
            f"option `{name}` is not one of {family} models, but of {', '.join(option.models)}",
            at=value.name_at,
            hint="leave it out or change model_type",
        )
    return option


def _take(
    option: Option, found: OptionValue, fields: dict[str, Any], space: dict[str, Dimension]
) -> None:
    if isinstance(found.value, Range | Candidates):
        space[option.field] = _dimension(option, found)
    elif option.field:
        fields[option.field] = _checked(option, found.value, found)
    else:
        _checked(option, found.value, found)


def _take_own(
    name: str, found: OptionValue, space: dict[str, Dimension], extra: dict[str, object]
) -> None:
    """An option of a ``python:`` model's own configuration."""
    match found.value:
        case Range(low, high):
            whole = isinstance(low, int) and isinstance(high, int)
            space[name] = IntUniform(int(low), int(high)) if whole else Uniform(low, high)
        case Candidates(values):
            space[name] = Choice(values)
        case value:
            extra[name] = value


def _dimension(option: Option, found: OptionValue) -> Dimension:
    if not option.search:
        raise BindError(f"option `{option.name}` cannot be searched over", at=found.value_at)
    if isinstance(found.value, Candidates):
        return Choice(tuple(_checked(option, v, found) for v in found.value.values))
    assert isinstance(found.value, Range)
    if option.search == "candidates":
        raise BindError(
            f"option `{option.name}` has no range",
            at=found.value_at,
            hint="list the values: HPARAM_CANDIDATES([…])",
        )
    low, high = _checked(option, found.value.low, found), _checked(option, found.value.high, found)
    if option.kind == "int":
        return IntUniform(low, high, log=option.search == "log")
    return LogUniform(low or _LOG_ZERO, high) if option.search == "log" else Uniform(low, high)


def checked(field: str, value: object) -> Any:
    """A hyper-parameter's value as the option that sets it allows; other names' as they are.

    Raises
    ------
    BindError
        The value has another type, or is out of range.
    """
    found = next((option for option in table.OPTIONS if option.field == field), None)
    return value if found is None else _checked(found, value, OptionValue(value))


def _checked(option: Option, value: object, found: OptionValue) -> Any:
    """`value` as the option's kind, in its range."""
    match option.kind:
        case "int" | "float" | "fraction":
            return _number(option, value, found)
        case "bool" if isinstance(value, bool):
            _refuse(option, str(value).lower(), found)
            return value
        case "text" if isinstance(value, str):
            return value
        case "choice" if isinstance(value, str):
            return _one_of(option, value, found)
        case "names":
            return _names(option, value, found)
        case "layers":
            return _layers(option, value, found)
        case "class_weights":
            return _class_weights(option, value, found)
        case "objectives":
            listed = value if isinstance(value, list) else [value]
            if len(listed) == 1 and isinstance(listed[0], str):
                return _one_of(option, listed[0], found)
            raise BindError("hparam_tuning_objectives takes one metric", at=found.value_at)
    raise _wrong(option, value, found)


def _wrong(option: Option, value: object, found: OptionValue) -> BindError:
    expected = {
        "int": "a whole number",
        "float": "a number",
        "fraction": "a fraction like 0.2",
        "bool": "TRUE or FALSE",
        "text": "a text",
        "choice": "one of " + ", ".join(f"'{v}'" for v in option.values),
        "names": "a list of column names",
        "layers": "a list of layer sizes like [64, 32]",
        "class_weights": "a list like [STRUCT('yes', 2.0), STRUCT('no', 1.0)]",
    }[option.kind]
    return BindError(f"option `{option.name}` is {expected}, found {value!r}", at=found.value_at)


def _number(option: Option, value: object, found: OptionValue) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(option, value, found)
    if option.kind == "int" and value != int(value):
        raise _wrong(option, value, found)
    if option.kind == "fraction" and value > 1:
        raise BindError(
            f"option `{option.name}` is a fraction of the rows, not percent: found {value:g}",
            at=found.value_at,
            hint=f"write {value / 100:g}",
        )
    below = value <= option.low if option.open_low else value < option.low
    above = value >= option.high if option.open_high else value > option.high
    if below or above or not math.isfinite(value):
        raise BindError(
            f"option `{option.name}` must be {_interval(option)}, found {value:g}",
            at=found.value_at,
        )
    return int(value) if option.kind == "int" else float(value)


def _interval(option: Option) -> str:
    if option.high == math.inf:
        return f"{'above' if option.open_low else 'at least'} {option.low:g}"
    left, right = "(" if option.open_low else "[", ")" if option.open_high else "]"
    return f"in {left}{option.low:g}, {option.high:g}{right}"


def _one_of(option: Option, value: str, found: OptionValue) -> str:
    word = dict(option.synonyms).get(value.lower(), value.lower())
    _refuse(option, word, found)
    if not option.takes(word):
        raise BindError(
            f"option `{option.name}` has no value '{value}'; there are {', '.join(option.values)}",
            at=found.value_at,
            hint=near(word, option.values),
        )
    return word if word in option.values else value


def _refuse(option: Option, word: str, found: OptionValue) -> None:
    hint = dict(option.refused).get(word)
    if hint is not None:
        raise UnsupportedError(
            f"{option.name} '{word}' is not offered", at=found.value_at, hint=hint
        )


def _names(option: Option, value: object, found: OptionValue) -> str | tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    texts = [v for v in listed if isinstance(v, str) and v]
    if not texts or len(texts) != len(listed):
        raise _wrong(option, value, found)
    if option.field == "label":
        if len(listed) != 1:
            raise BindError(f"a model has one label column, found {len(listed)}", at=found.value_at)
        return texts[0]
    return tuple(texts)


def _layers(option: Option, value: object, found: OptionValue) -> tuple[int, ...]:
    listed = [value] if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(listed, list | tuple):
        raise _wrong(option, value, found)
    whole = [v for v in listed if isinstance(v, int) and not isinstance(v, bool) and v >= 1]
    if len(whole) != len(listed):
        raise _wrong(option, value, found)
    return tuple(whole)


def _class_weights(
    option: Option, value: object, found: OptionValue
) -> tuple[tuple[str, float], ...]:
    """Pairs of a class as text and its weight; from Python a dict."""
    listed = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(listed, list) or not listed:
        raise _wrong(option, value, found)
    weights: dict[str, float] = {}
    for item in listed:
        match item:
            case (bool() | int() | float() | str() as label, int() | float() as weight):
                text = str(label).lower() if isinstance(label, bool) else str(label)
            case _:
                raise _wrong(option, item, found)
        if not math.isfinite(weight) or weight < 0:
            raise BindError(
                f"the weight of class '{text}' must be finite and at least 0, found {weight:g}",
                at=found.value_at,
            )
        if text in weights:
            raise BindError(f"class_weights names '{text}' twice", at=found.value_at)
        weights[text] = float(weight)
    if not any(weights.values()):
        raise BindError("class_weights are all 0, nothing would be learnt", at=found.value_at)
    return tuple(weights.items())


def _choose_procedure(fields: dict[str, Any], space: dict[str, Dimension]) -> None:
    if "procedure" not in fields:
        listed = all(isinstance(d, Choice) for d in space.values())
        fields["procedure"] = "grid" if listed and "num_trials" not in fields else "random"
