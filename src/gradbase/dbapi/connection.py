"""A session as PEP 249's Connection."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from gradbase.dbapi import errors
from gradbase.dbapi.cursor import Cursor, Parameters
from gradbase.errors import GradbaseError
from gradbase.frontend.tokens import Token, significant
from gradbase.frontend.words import is_model_statement
from gradbase.session import Result, Session
from gradbase.session import connect as connect_session

_WRITING = frozenset("INSERT UPDATE DELETE MERGE TRUNCATE CREATE DROP ALTER COPY REPLACE".split())
"""First words of statements that change tables."""
_INSIDE = frozenset("INSERT UPDATE DELETE MERGE".split())
"""Words that make a WITH … such a statement."""


class Connection:
    """A database with its models. Threads may share it; each uses cursors of its own.

    As in Python's sqlite3, a transaction begins by itself before the first statement that changes
    tables, and lasts until `commit` or `rollback`; queries alone begin none. CREATE MODEL and its
    like commit by themselves, always.

    Parameters
    ----------
    session : Session
    autocommit : bool
        Every statement commits by itself.
    owned : bool
        Whether closing the connection closes the session.
    """

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, session: Session, *, autocommit: bool = False, owned: bool = True) -> None:
        self._session, self._owned = session, owned
        self._autocommit = autocommit
        self._in_transaction = False
        self._closed = False
        self._lock = threading.RLock()

    @property
    def session(self) -> Session:
        """The session behind it: models, studies, plans."""
        self._check_open()
        return self._session

    @property
    def autocommit(self) -> bool:
        """Whether every statement commits by itself; switching it on commits what is pending."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, on: bool) -> None:
        if on:
            self.commit()
        self._autocommit = on

    @property
    def in_transaction(self) -> bool:
        """Whether there is something to commit or to roll back."""
        return self._in_transaction

    def cursor(self) -> Cursor:
        """A new cursor."""
        self._check_open()
        return Cursor(self)

    def execute(self, operation: str, parameters: Parameters = None) -> Cursor:
        """A new cursor on which a statement has run (as sqlite3 has it)."""
        return self.cursor().execute(operation, parameters)

    def commit(self) -> None:
        """Make all changes since the last commit lasting; nothing where there are none."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Undo all changes since the last commit; nothing where there are none."""
        self._end("ROLLBACK")

    def close(self) -> None:
        """Undo what was not committed and close; twice is allowed."""
        if self._closed:
            return
        try:
            self.rollback()
        finally:
            self._closed = True
            if self._owned:
                self._session.close()

    def run(self, statement: str, parameters: Parameters) -> Result:
        """Run one statement, in a transaction where it needs one."""
        self._check_open()
        words = significant(statement)
        first = words[0].upper if words else ""
        with errors.translated():
            with self._lock:
                if not (self._autocommit or self._in_transaction) and _writes(words):
                    self._session.sql("BEGIN")
                    self._in_transaction = True
            result = self._session.sql(statement, parameters)
            if first in ("BEGIN", "START"):
                self._in_transaction = True
            elif first in ("COMMIT", "END", "ROLLBACK", "ABORT"):
                self._in_transaction = False
            return result

    def _end(self, statement: str) -> None:
        self._check_open()
        with self._lock:
            if not self._in_transaction:
                return
            # A commit that fails has ended the transaction too.
            self._in_transaction = False
            with errors.translated():
                self._session.sql(statement)

    def _check_open(self) -> None:
        if self._closed:
            raise errors.ProgrammingError("the connection is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit, or roll back where the block has failed, and close."""
        try:
            if error is None and not self._closed:
                self.commit()
        finally:
            self.close()


def _writes(words: list[Token]) -> bool:
    if not words or is_model_statement(words):
        return False
    if words[0].upper == "WITH":
        return any(word.upper in _INSIDE for word in words)
    return words[0].upper in _WRITING


def connect(
    database: str | Session = ":memory:", *, autocommit: bool = False, **options: Any
) -> Connection:
    """Open a database.

    Parameters
    ----------
    database : str or Session
        As of `gradbase.connect`; or a session that is open, which stays open.
    autocommit : bool
        Every statement commits by itself; otherwise `Connection.commit` does.
    **options
        As of `gradbase.connect`: read_only, python_modules, threads, memory_limit_bytes, progress.

    Raises
    ------
    OperationalError
        The file is locked, or cannot be read or made.
    """
    if isinstance(database, Session):
        if options:
            raise errors.InterfaceError(f"an open session takes no {', '.join(options)}")
        return Connection(database, autocommit=autocommit, owned=False)
    try:
        return Connection(connect_session(database, **options), autocommit=autocommit)
    except GradbaseError as error:
        raise errors.of(error) from error
