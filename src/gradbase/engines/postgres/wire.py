"""The rows of a COPY: straight from the socket where nothing is encrypted, through libpq elsewhere.

libpq hands over one row a call, which costs more than the server needs to make the row. Between two
statements it reads nothing and keeps nothing: the socket is then free for somebody who speaks the
protocol (version 3: a letter, the length of itself and what follows, what follows). Everything up
to ReadyForQuery is read here, so that libpq finds the connection as it left it.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import pq
from psycopg.pq import DiagnosticField

from gradbase.engines.postgres.connections import Connection
from gradbase.errors import InternalError

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEAD = len(SIGNATURE) + 8
_END = b"\xff\xff"
_PATIENCE_S = 1.0
PIECE = 1 << 18
"""Bytes of rows to be decoded at a time: they stay in a core's cache, and the server need not wait
until they are decoded, because as much again fits into the socket."""
_ROOM = 2 * PIECE
_PAUSE_S = 2e-4
_ROW, _READY, _FAILED = b"dZE"
_FRAMED = struct.Struct(">Bi")
"""A message's letter and length."""
_FRAME = _FRAMED.size
_SHORTEST = 4 + len(_END)
"""The length of the file's end, and of a row without columns."""


@dataclass(frozen=True)
class Rows:
    """Rows on the wire.

    Parameters
    ----------
    data : uint8[bytes]
        At least 16; valid until the next rows are asked for.
    starts, sizes : int64[rows]
        Where each row stands, and its bytes.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def stride(self) -> int:
        """Bytes from each row to the next, where they and the size never differ; else 0."""
        if len(self.sizes) < 2 or (self.sizes != self.sizes[0]).any():
            return 0
        steps = np.diff(self.starts)
        return int(steps[0]) if (steps == steps[0]).all() else 0


class Copy(Protocol):
    """One COPY to the client."""

    def begin(self, statement: bytes) -> None:
        """Send the statement."""
        ...

    def take(self, most: int) -> Rows | None:
        """The next rows, up to `most` of them and about `PIECE` bytes; None behind the last.

        Raises psycopg's exceptions for the server's errors.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether the connection is free for another statement."""
        ...

    def close(self) -> None:
        """Forget what was received."""
        ...


def copy_of(connection: Connection) -> Copy:
    """The fastest way that this connection allows."""
    calm = (pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS)
    if connection.plain and connection.pgconn.transaction_status in calm:
        return DirectCopy(connection)
    return DriverCopy(connection)


def _behind_head(first: bytes | memoryview) -> int:
    """Where the rows begin in the first message: behind the file's header."""
    if first[: len(SIGNATURE)] != SIGNATURE:
        raise InternalError("the server's COPY has another format")
    (extension,) = struct.unpack_from(">i", first, len(SIGNATURE) + 4)
    return _HEAD + extension


class DirectCopy:
    """On the socket of the connection, which libpq leaves alone meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._encoding = connection.info.encoding
        self._socket = socket.socket(fileno=os.dup(connection.pgconn.socket))
        self._buffer = bytearray(_ROOM)
        self._at = 0  # the first byte that is not understood yet
        self._end = 0  # behind the last one received
        self._size = 0  # of the last row
        self._received = 0
        self._head, self._ready = True, False
        self._error: psycopg.Error | None = None

    @property
    def ended(self) -> bool:
        """Whether the connection is free for another statement."""
        return self._ready

    def close(self) -> None:
        """Give the socket back to libpq alone."""
        self._socket.close()

    def begin(self, statement: bytes) -> None:
        """Send the statement."""
        left = memoryview(b"Q" + struct.pack(">i", len(statement) + 5) + statement + b"\0")
        while left:
            select.select([], [self._socket], [], _PATIENCE_S)
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise psycopg.OperationalError(f"the server is gone: {error}") from error

    def take(self, most: int) -> Rows | None:
        """The next rows, up to `most` of them and about `PIECE` bytes; None behind the last."""
        self._forget()
        places: list[NDArray[np.int64]] = []
        sizes: list[NDArray[np.int64]] = []
        while not self._ready and most and (self._at < PIECE or not any(map(len, places))):
            before = self._at
            for scan in (self._alike, self._of_any_size, self._of_any_kind):
                found = scan(most)
                places.append(found[0])
                sizes.append(found[1])
                most -= len(found[0])
            if self._at == before:
                self._receive()
        if any(map(len, places)):
            data = np.frombuffer(self._buffer, np.uint8)
            return Rows(data, np.concatenate(places), np.concatenate(sizes))
        if self._error is not None:
            raise self._error
        return None

    def _alike(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the same size as the last one, all in one step."""
        step = self._size + _FRAME
        count = min((self._end - self._at) // step, limit) if self._size else 0
        if count:
            data = np.frombuffer(self._buffer, np.uint8)
            frames = data[self._at : self._at + count * step].reshape(count, step)[:, :_FRAME]
            expected = np.frombuffer(struct.pack(">Bi", _ROW, self._size + 4), np.uint8)
            alike = (frames == expected).all(axis=1)
            count = count if alike.all() else int(alike.argmin())
        starts = self._at + _FRAME + step * np.arange(count, dtype=np.int64)
        self._at += count * step
        return starts, np.full(count, self._size, np.int64)

    def _of_any_size(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows as far as they are there; a loop of few steps, as their sizes form a chain."""
        found: list[int] = []
        frame, buffer, at, last = _FRAMED.unpack_from, self._buffer, self._at, self._end - _FRAME
        while at <= last and len(found) < limit and not self._head:
            kind, length = frame(buffer, at)
            if kind != _ROW or length <= _SHORTEST:
                break
            found.append(at)
            at += 1 + length
        self._at = found.pop() if at > self._end else at
        places = np.array([*found, self._at], np.int64)
        sizes = np.diff(places) - _FRAME
        self._size = int(sizes[-1]) if found else self._size
        return places[:-1] + _FRAME, sizes

    def _of_any_kind(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The next message, if it is there."""
        starts: list[int] = []
        sizes: list[int] = []
        start = self._at + _FRAME
        if limit and start <= self._end:
            kind, length = _FRAMED.unpack_from(self._buffer, self._at)
            behind = self._at + 1 + length
            if behind <= self._end:
                if kind == _ROW:
                    self._first_or_last(start, behind, starts, sizes)
                else:
                    self._heed(kind, bytes(self._buffer[start:behind]))
                self._at = behind
        return np.array(starts, np.int64), np.array(sizes, np.int64)

    def _first_or_last(self, start: int, behind: int, starts: list[int], sizes: list[int]) -> None:
        """The file's head stands before the first row; what looks like a row may be its end."""
        if self._head:
            self._head = False
            start += _behind_head(bytes(self._buffer[start:behind]))
        if start < behind and bytes(self._buffer[start:behind]) != _END:
            starts.append(start)
            sizes.append(behind - start)

    def _heed(self, kind: int, body: bytes) -> None:
        """A message that is no row. An error counts; a notice and what a setting is now do not."""
        if kind == _FAILED:
            self._error = _error_of(body, self._encoding)
        self._ready = kind == _READY

    def _forget(self) -> None:
        """Room for more: the rows before have been used."""
        rest = self._buffer[self._at : self._end]
        self._buffer[: len(rest)] = rest
        self._at, self._end = 0, len(rest)

    def _receive(self) -> None:
        if self._end == len(self._buffer):
            self._buffer = self._buffer + bytearray(len(self._buffer))
        select.select([self._socket], [], [], _PATIENCE_S)
        try:
            got = self._socket.recv_into(memoryview(self._buffer)[self._end :])
        except BlockingIOError:
            return
        except OSError as error:
            raise psycopg.OperationalError(f"the server is gone: {error}") from error
        if not got:
            raise self._error or psycopg.OperationalError(
                "server closed the connection unexpectedly"
            )
        self._end += got
        self._received += got
        if self._received > 2 * _ROOM and got < _ROOM // 8:
            time.sleep(_PAUSE_S)  # one long read costs both sides less than many short ones


def _error_of(body: bytes, encoding: str) -> psycopg.Error:
    """The exception that the driver makes of an ErrorResponse."""
    found: dict[int, bytes | None] = {part[0]: part[1:] for part in body.split(b"\0") if part}
    field: Any = lambda name: (found.get(name) or b"").decode(encoding, "replace")  # noqa: E731
    text = field(DiagnosticField.MESSAGE_PRIMARY)
    for name in ("DETAIL", "HINT", "CONTEXT"):
        more = field(DiagnosticField["MESSAGE_" + name if name != "CONTEXT" else name])
        text += f"\n{name}:  {more}" if more else ""
    state = field(DiagnosticField.SQLSTATE)
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = (
            psycopg.OperationalError if state[:2] in ("08", "53", "57") else psycopg.DatabaseError
        )
    return kind(text, info=found, encoding=encoding)  # type: ignore[arg-type]


class DriverCopy:
    """Through libpq, row by row."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._wire = connection, connection.pgconn
        self._head, self._behind = True, False

    @property
    def ended(self) -> bool:
        """Whether the connection is free for another statement."""
        return self._wire.transaction_status != pq.TransactionStatus.ACTIVE

    def close(self) -> None:
        """Nothing is kept."""

    def begin(self, statement: bytes) -> None:
        """Send the statement, and wait for its first answer."""
        self._wire.send_query(statement)
        while self._wire.flush():
            select.select([], [self._wire.socket], [], _PATIENCE_S)
        result = self._result()
        if result is None or result.status != pq.ExecStatus.COPY_OUT:
            self._drain(result)
            raise psycopg.OperationalError("the server did not begin to copy")

    def take(self, most: int) -> Rows | None:
        """The next rows, up to `most` of them and about `PIECE` bytes; None behind the last."""
        rows: list[memoryview | bytes] = []
        held = 0
        while len(rows) < most and held < PIECE:
            message = self._message()
            if message is None:
                break
            rows.append(message)
            held += len(message)
        if rows:
            data = np.frombuffer(b"".join([*rows, bytes(16)]), np.uint8)
            sizes = np.fromiter(map(len, rows), np.int64, len(rows))
            return Rows(data, np.cumsum(sizes) - sizes, sizes)
        self._drain(self._result())
        return None

    def _message(self) -> memoryview | bytes | None:
        """The next message, which is a row; None at the end. The file's head is left out."""
        while not self._behind:
            size, message = self._wire.get_copy_data(1)
            if size == 0:
                self._wait()
                continue
            if size < 0:
                self._behind = True
                break
            if self._head:
                self._head = False
                message = bytes(message)[_behind_head(message) :]
            if len(message) > 2 or (len(message) == 2 and bytes(message) != _END):
                return message
        return None

    def _wait(self) -> None:
        """Without holding up other threads."""
        select.select([self._wire.socket], [], [], _PATIENCE_S)
        self._wire.consume_input()

    def _result(self) -> Any:
        while self._wire.is_busy():
            self._wait()
        return self._wire.get_result()

    def _drain(self, result: Any) -> None:
        """Up to the last result; the error of the first is raised."""
        while self._result() is not None:
            pass
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            encoding = self._connection.info.encoding
            raise psycopg.errors.error_from_result(result, encoding=encoding)
