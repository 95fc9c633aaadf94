"""The versions of a model, from Python: what `ModelHandle` is made of beside predicting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradbase.session.results import Result

if TYPE_CHECKING:
    from gradbase.ir.facts import Version
    from gradbase.ir.learning import Model
    from gradbase.session.handles import ModelHandle
    from gradbase.session.session import Session


class Versioned:
    """A version of a model of the session's database."""

    session: Session
    model: Model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def version(self) -> int:
        """Number of this version."""
        return self.model.version

    @property
    def versions(self) -> Result:
        """Every version: version, created, model_type, trials, metric, value, best_trial, current,
        aliases."""
        return Result.of(self.session.store.list_versions(self.name))

    def describe(self) -> Result:
        """What ``DESCRIBE MODEL`` gives: section, position, name, type, value, details."""
        return self.session.run_relation(self.session.store.describe(self.name, self.version))

    def alias(self, alias: str, version: Version = None) -> ModelHandle:
        """Let `alias` name a version (default: this one); returns it."""
        chosen = self.version if version is None else version
        self.session.store.versions.set_alias(self.name, alias, chosen)
        return self.session.model(self.name, alias)

    def drop_alias(self, alias: str) -> None:
        """Take an alias away."""
        self.session.store.versions.drop_alias(self.name, alias)

    def rollback(self, version: Version = None) -> ModelHandle:
        """Let the model's bare name mean a version (default: this one); returns it.

        The next training makes the next version all the same, and that one is current then.
        """
        chosen = self.version if version is None else version
        self.session.store.versions.set_current(self.name, chosen)
        return self.session.model(self.name)

    def prune(self, keep: int) -> list[int]:
        """Delete all but the `keep` newest versions, the current one and those with an alias.

        Returns
        -------
        list of int
            The versions deleted.
        """
        return self.session.store.versions.prune(self.name, keep)
