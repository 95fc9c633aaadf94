"""Protocol-buffer messages in a file, field by field; payloads that nobody asks for stay on disk.

Every length is checked against the message around it before anything is read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from gradbase.errors import DataError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WINDOW = 1 << 18
_SIZES = {FIXED64: 8, FIXED32: 4}

Span = tuple[int, int]
"""Where a payload starts and ends in the file."""
Found = tuple[int, int, int | Span]
"""Number of a field, its wire type, and its value: a number or where its payload lies."""


class Wire:
    """A file of messages.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.size = os.fstat(self._file).st_size
        self._start, self._window = 0, b""

    @property
    def whole(self) -> Span:
        """The outermost message."""
        return 0, self.size

    def fields(self, span: Span) -> Generator[Found]:
        """The fields of the message at `span`, in order.

        Raises
        ------
        DataError
            What is there is no message.
        """
        at, end = span
        while at < end:
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            value: int | Span
            if kind == VARINT:
                value, at = self._varint(at, end)
            elif kind in _SIZES or kind == BYTES:
                length, at = (_SIZES[kind], at) if kind in _SIZES else self._varint(at, end)
                if length > end - at:
                    raise damaged(
                        f"a field of {length:,} bytes at byte {at:,}, {end - at:,} are left"
                    )
                value, at = (at, at + length), at + length
            else:
                raise damaged(f"wire type {kind} at byte {at:,}")
            if not number:
                raise damaged(f"a field without a number at byte {at:,}")
            yield number, kind, value

    def read(self, span: int | Span, most: int) -> bytes:
        """A payload of at most `most` bytes."""
        if isinstance(span, int):
            raise damaged("a number where bytes are expected")
        start, end = span
        if end - start > most:
            raise DataError(
                f"a part of the file that may have {most:,} bytes has {end - start:,}",
                at=f"byte {start:,}",
            )
        if self._start <= start and end <= self._start + len(self._window):
            return self._window[start - self._start : end - self._start]
        return os.pread(self._file, end - start, start)

    def text(self, span: int | Span) -> str:
        """A payload as text of at most 64 KB."""
        return self.read(span, 1 << 16).decode("utf-8", "replace")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._byte(at)
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise damaged(f"a number without an end at byte {at:,}")

    def _byte(self, at: int) -> int:
        offset = at - self._start
        if not 0 <= offset < len(self._window):
            self._start, self._window = at, os.pread(self._file, _WINDOW, at)
            offset = 0
        if not self._window:
            raise damaged(f"the file ends at byte {at:,}")
        return self._window[offset]


def damaged(found: str) -> DataError:
    """The error for bytes that are no message."""
    return DataError(f"the file is damaged or no ONNX model: {found}")


def signed(value: int) -> int:
    """A varint as int64."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def float_of(data: bytes) -> float:
    """Four bytes as a number."""
    return float(struct.unpack("<f", data)[0])


# -- lists that are written element by element, each with its tag ---------------------------------


def varints(data: bytes) -> npt.NDArray[np.int64]:
    """The varints that `data` consists of."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
        raise damaged("a list of numbers without an end")
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    lengths = ends - starts + 1
    if len(lengths) and lengths.max() > 10:
        raise damaged("a number of more than ten bytes")
    values = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        there = lengths > place
        bits = (raw[starts[there] + place] & 0x7F).astype(np.uint64)
        values[there] |= bits << np.uint64(7 * place)
    return values.view(np.int64)
