"""The versions of a model: aliases, going back, pruning, and what is said about the model.

Every change is one transaction under the catalog lock.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradbase.engines.base import Transaction
from gradbase.errors import BindError
from gradbase.ir.facts import Version
from gradbase.store.catalog import Catalog, now
from gradbase.store.reading import LATEST, chosen, names, no_alias, unknown_model
from gradbase.store.tables import OF_VERSION

_ALIAS = re.compile(r"[^\W\d][\w-]*\Z")
OPTIONS = {"description": "description", "labels": "labels", "expiration_timestamp": "expires"}
"""Option of ALTER MODEL -> column of `models`."""


@dataclass
class _Model:
    """A model inside a transaction: `ids` by version, `aliases` -> version."""

    name: str
    model_id: int
    current: int
    ids: dict[int, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)

    def number(self, version: Version) -> int:
        return chosen(self.name, version, list(self.ids), self.current, self.aliases)

    def held(self, version: int) -> list[str]:
        """Aliases of a version."""
        return sorted(alias for alias, number in self.aliases.items() if number == version)


class Versions:
    """Changes to the versions of models.

    Parameters
    ----------
    catalog : Catalog
    sweep : callable
        Frees blobs by hash that have just lost a name.
    """

    def __init__(self, catalog: Catalog, sweep: Callable[[Sequence[str]], None]) -> None:
        self._catalog, self._sweep = catalog, sweep

    def set_alias(self, name: str, alias: str, version: Version) -> int:
        """Let `alias` name a version, whatever it named before; returns the version's number.

        Raises
        ------
        BindError
            There is no such model or version, or `alias` cannot be one.
        """
        _check_alias(alias)
        with self._catalog.write() as handle:
            model = self._model(handle, name)
            number = model.number(version)
            self._forget(handle, model, alias)
            row = (model.model_id, alias, model.ids[number])
            self._catalog.insert(handle, "aliases", [row])
        return number

    def drop_alias(self, name: str, alias: str, *, if_exists: bool = False) -> bool:
        """Take an alias away; whether there was one."""
        with self._catalog.write() as handle:
            model = self._model(handle, name)
            if alias not in model.aliases:
                if if_exists:
                    return False
                raise no_alias(name, alias, model.aliases)
            self._forget(handle, model, alias)
        return True

    def set_current(self, name: str, version: Version) -> int:
        """Let the model's bare name mean a version; returns its number.

        The next version that is trained gets the next number all the same, and becomes current.
        """
        with self._catalog.write() as handle:
            model = self._model(handle, name)
            number = model.number(version)
            self._update(handle, model.model_id, {"current_version": number})
        return number

    def prune(self, name: str, keep: int) -> list[int]:
        """Delete all but the `keep` newest versions; the current one and aliased ones stay too.

        Returns
        -------
        list of int
            The versions deleted.
        """
        if keep < 1:
            raise BindError(
                f"at least one version is kept, found {keep}", hint="DROP MODEL deletes all"
            )
        with self._catalog.write() as handle:
            model = self._model(handle, name)
            staying = {model.current, *model.aliases.values(), *sorted(model.ids)[-keep:]}
            dropped = [number for number in model.ids if number not in staying]
            freed = self.delete(handle, [model.ids[n] for n in dropped])
        self._sweep(freed)
        return dropped

    def drop(self, name: str, version: Version, *, if_exists: bool = False) -> bool:
        """Delete one version; whether there was one.

        Raises
        ------
        BindError
            There is no such version, or it is the current one, or has an alias.
        """
        with self._catalog.write() as handle:
            try:
                model = self._model(handle, name)
                number = model.number(version)
            except BindError:
                if if_exists:
                    return False
                raise
            _check_droppable(model, number)
            freed = self.delete(handle, [model.ids[number]])
        self._sweep(freed)
        return True

    def set_options(self, name: str, options: Mapping[str, Any]) -> None:
        """Change what is said of a model.

        Parameters
        ----------
        options : mapping
            ``description``: str; ``labels``: mapping of str to str; ``expiration_timestamp``:
            datetime in UTC without a zone. None takes the value away.
        """
        changes = {OPTIONS[option]: _stored(value) for option, value in options.items()}
        with self._catalog.write() as handle:
            self._update(handle, self._model(handle, name).model_id, changes)

    def expired(self) -> list[str]:
        """Names of the models whose time is over."""
        rows = self._catalog.rows(["name"], "FROM {g}.models WHERE expires <= ?", [now()])
        return [row["name"] for row in rows]

    def delete(self, handle: Transaction, version_ids: Sequence[int]) -> list[str]:
        """Delete all rows of versions; returns the hashes they named."""
        g, freed = self._catalog.schema, list[str]()
        for version_id in version_ids:
            query = "SELECT DISTINCT hash FROM {g}.blobs WHERE version_id = ?"
            freed += [row[0] for row in self._catalog.select(handle, query, [version_id])]
            for table in OF_VERSION:
                handle.execute(f"DELETE FROM {g}.{table} WHERE version_id = ?", [version_id])
        self._catalog.next_id(handle)
        return freed

    # -- inside ------------------------------------------------------------------------------------

    def _model(self, handle: Transaction, name: str) -> _Model:
        """The model, expired or not."""
        rows = self._catalog.select(
            handle,
            "SELECT m.model_id, m.current_version, v.version, v.version_id, a.alias "
            "FROM {g}.models m JOIN {g}.versions v ON v.model_id = m.model_id "
            "LEFT JOIN {g}.aliases a ON a.version_id = v.version_id "
            "WHERE m.name = ? ORDER BY v.version",
            [name],
        )
        if not rows:
            raise unknown_model(name, names(self._catalog))
        model = _Model(name, rows[0][0], rows[0][1])
        for _, _, number, version_id, alias in rows:
            model.ids[number] = version_id
            if alias is not None:
                model.aliases[alias] = number
        return model

    def _forget(self, handle: Transaction, model: _Model, alias: str) -> None:
        handle.execute(
            f"DELETE FROM {self._catalog.schema}.aliases WHERE model_id = ? AND alias = ?",
            [model.model_id, alias],
        )
        self._catalog.next_id(handle)

    def _update(self, handle: Transaction, model_id: int, changes: Mapping[str, Any]) -> None:
        assignments = ", ".join(f"{column} = ?" for column in changes)
        handle.execute(
            f"UPDATE {self._catalog.schema}.models SET {assignments} WHERE model_id = ?",
            [*changes.values(), model_id],
        )
        self._catalog.next_id(handle)


def _check_alias(alias: str) -> None:
    if alias == LATEST:
        raise BindError(
            f"`{LATEST}` is the newest version of every model, it cannot be moved",
            hint="ALTER MODEL … SET VERSION moves what the model's name means",
        )
    if not _ALIAS.match(alias):
        raise BindError(
            f"`{alias}` cannot be an alias",
            hint="letters, digits, _ and -, from a letter or _ on: champion, blue_green",
        )


def _check_droppable(model: _Model, number: int) -> None:
    held = model.held(number)
    if held:
        raise BindError(
            f"version {number} of model `{model.name}` has "
            f"{'the alias' if len(held) == 1 else 'the aliases'} {', '.join(held)}",
            hint=f"ALTER MODEL {model.name} DROP ALIAS {held[0]}, or let it name another version",
        )
    if number == model.current:
        others = [n for n in model.ids if n != number]
        raise BindError(
            f"version {number} is the current one of model `{model.name}`",
            hint=f"ALTER MODEL {model.name} SET VERSION {others[-1]} makes another one current"
            if others
            else f"it is the only one; DROP MODEL {model.name} deletes the model",
        )


def _stored(value: Any) -> Any:
    if isinstance(value, dt.datetime | str | None):
        return value
    return json.dumps(dict(value), ensure_ascii=False)
