"""The journal of a run: one JSON object per line, on disk before `append` returns.

A crash may tear the last line; readers ignore it. Beside the journal lies a mailbox: other
processes post commands as files, the coordinator takes them. Neither needs the database open.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from gradbase.errors import StoreError
from gradbase.store.files import make_folder, reported, sync_folder, write_all, write_files

Event = dict[str, Any]
FILE, MAILBOX = "journal.jsonl", "mailbox"

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")
_numbers = itertools.count()


class Journal:
    """The journal of one run, open for appending by its coordinator.

    Examples
    --------
    >>> import tempfile
    >>> with Journal.create(Path(tempfile.mkdtemp()), "r1", {"model": "churn"}) as journal:
    ...     journal.append({"event": "epoch", "trial": 1, "epoch": 0})
    >>> [e["event"] for e in read(journal.path)]
    ['start', 'epoch']
    """

    def __init__(self, run_id: str, path: Path, handle: int) -> None:
        self.run_id, self.path, self._handle = run_id, path, handle
        self._lock = threading.Lock()

    @classmethod
    def create(cls, runs: Path, run_id: str, header: Mapping[str, Any]) -> Self:
        """Start the journal of a new run in the folder `runs`; StoreError where it exists."""
        folder = runs / checked(run_id)
        with reported(f"starting the journal of run {run_id}"):
            make_folder(folder / MAILBOX)
            path = folder / FILE
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            made = cls(run_id, path, handle)
            made.append({"event": "start", "run": run_id, **header})
            sync_folder(folder)
        return made

    @classmethod
    def resume(cls, runs: Path, run_id: str) -> Self:
        """Go on with an existing journal; a torn last line is cut off first."""
        path = runs / checked(run_id) / FILE
        with reported(f"opening the journal of run {run_id}"):
            mend(path)
            make_folder(path.parent / MAILBOX)
            return cls(run_id, path, os.open(path, os.O_WRONLY | os.O_APPEND))

    def append(self, event: Mapping[str, Any], *, durable: bool = True) -> None:
        """Write one event (JSON), from any thread; adds the time as ``at``, seconds.

        What need not be `durable` by itself is on disk with the next event that is.
        """
        line = json.dumps({**event, "at": time.time()}, ensure_ascii=False) + "\n"
        with self._lock, reported(f"writing the journal of run {self.run_id}"):
            write_all(self._handle, memoryview(line.encode()))
            if durable:
                os.fsync(self._handle)

    def take(self) -> list[Event]:
        """Commands posted since the last call, oldest first. What is no JSON object is dropped."""
        found: list[Event] = []
        for path in sorted((self.path.parent / MAILBOX).glob("*.json")):
            event = _parse(path.read_bytes())
            path.unlink()
            if event is not None:
                found.append(event)
        return found

    def close_mailbox(self) -> None:
        """Take no more commands: tells others that the run has ended, should no event say so."""
        shutil.rmtree(self.path.parent / MAILBOX, ignore_errors=True)

    def close(self) -> None:
        """Give the file back. Closing twice is allowed."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def post(folder: Path, command: Mapping[str, Any]) -> None:
    """Send a command to the coordinator of the run in `folder`, from any process."""
    mailbox = folder / MAILBOX
    name = f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}.json"
    data = memoryview(json.dumps(command, ensure_ascii=False).encode())
    with reported(f"posting to {mailbox}"):
        write_files([(mailbox / name, data)], folder)


def read(path: Path) -> list[Event]:
    """Events of a journal, oldest first; a torn last line is ignored.

    Raises
    ------
    StoreError
        There is no journal, or a line that is not the last is damaged.
    """
    return _events(path)[0]


def is_torn(path: Path) -> bool:
    """Whether the last line is incomplete."""
    events_end = _events(path)[1]
    return events_end < path.stat().st_size


def mend(path: Path) -> bool:
    """Cut off a torn last line; whether there was one."""
    if not is_torn(path):
        return False
    with path.open("r+b") as file:
        file.truncate(_events(path)[1])
        os.fsync(file.fileno())
    return True


def _events(path: Path) -> tuple[list[Event], int]:
    """Events, and the bytes of the file that they take."""
    with reported(f"reading the journal {path}"):
        data = path.read_bytes()
    lines = data.split(b"\n")
    events: list[Event] = []
    end = 0
    for number, line in enumerate(lines[:-1], start=1):
        event = _parse(line)
        if event is None and number == len(lines) - 1 and not lines[-1]:
            break
        if event is None:
            raise StoreError(
                f"line {number} of {len(lines) - 1} of the journal {path} is damaged",
                hint="the run cannot be resumed; start it again",
            )
        events.append(event)
        end += len(line) + 1
    return events, end


def _parse(line: bytes) -> Event | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def checked(run_id: str) -> str:
    """The id itself; StoreError where it is none (it becomes part of a path)."""
    if not _RUN_ID.match(run_id):
        raise StoreError(
            f"`{run_id[:120]}` is no run id", hint="use up to 100 letters, digits, - and _"
        )
    return run_id
