"""Units in worker processes of this machine, each with a socket to the process that searches."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from gradbase.errors import EngineError
from gradbase.selection.executors.base import WorkerLost

SILENT_S = 60.0
"""A worker that says nothing for so long is given up."""
START_S = 120.0
"""The same of one that starts: a busy machine loads torch slowly."""
BEAT_S = 1.0
"""How often a worker says that it lives."""
_POLL_S = 0.1
_PIECE = 1 << 20
_MODULE = "gradbase.selection.executors.processes"


class ProcessLink:
    """See `base.Link`; starts a process. Ctrl-C does not reach it: the search decides."""

    def __init__(self, threads: int) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": _path(), "OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket.settimeout(_POLL_S)
        self._patience_s = START_S

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    def ask(self, message: bytes, check: Callable[[], None]) -> bytes:
        try:
            self._send(memoryview(len(message).to_bytes(8, "little") + message), check)
            while True:
                size = int.from_bytes(self._receive(8, check), "little")
                self._patience_s = SILENT_S  # it has started
                if size:  # else it only says that it lives
                    return self._receive(size, check)
        except OSError as error:
            raise WorkerLost(str(error)) from error

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _send(self, data: memoryview, check: Callable[[], None]) -> None:
        heard = time.monotonic()
        while data:
            try:
                data = data[self._socket.send(data[:_PIECE]) :]
                heard = time.monotonic()
            except TimeoutError:
                self._still(heard, check)

    def _receive(self, size: int, check: Callable[[], None]) -> bytes:
        found, heard = bytearray(size), time.monotonic()
        left = memoryview(found)
        while left:
            try:
                count = self._socket.recv_into(left, min(len(left), _PIECE))
            except TimeoutError:
                self._still(heard, check)
                continue
            if not count:
                raise WorkerLost(f"its process ended with {self._process.wait()}")
            left, heard = left[count:], time.monotonic()
        return bytes(found)

    def _still(self, heard: float, check: Callable[[], None]) -> None:
        """Whether to wait any longer."""
        check()
        if time.monotonic() - heard > self._patience_s:
            raise WorkerLost(f"it said nothing for {self._patience_s:g} s")


def started(threads: int, hello: bytes, check: Callable[[], None]) -> tuple[ProcessLink, bytes]:
    """A new worker, and its answer to `hello`.

    Raises
    ------
    EngineError
        The process ends before it answers.
    """
    link = ProcessLink(threads)
    try:
        return link, link.ask(hello, check)
    except WorkerLost as lost:
        link.close()
        raise EngineError(
            f"a worker process could not start: {lost}",
            hint=f"{sys.executable} -m gradbase must run; or use executor = 'in_process'",
        ) from lost
    except BaseException:
        link.close()
        raise


def _path() -> str:
    return os.pathsep.join(p for p in sys.path if p)


# -- in the worker -----------------------------------------------------------------------------


def main(handle: int) -> None:
    """Answer messages until the search is gone."""
    from gradbase.selection.executors.worker import Worker

    link = socket.socket(fileno=handle)
    writing = threading.Lock()
    waiting = threading.Semaphore(0)
    messages: list[bytes] = []

    def listen() -> None:
        while True:
            size = _exactly(link, 8)
            data = _exactly(link, int.from_bytes(size, "little")) if size else b""
            if not data:
                os._exit(0)  # also in the middle of a unit: nobody waits for it
            messages.append(data)
            waiting.release()

    def beat() -> None:
        while True:
            time.sleep(BEAT_S)
            with writing, contextlib.suppress(OSError):  # then `listen` ends the process
                link.sendall(bytes(8))

    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=beat, daemon=True).start()
    worker = Worker()
    while True:
        waiting.acquire()
        answer = worker.handle(messages.pop(0))
        with writing:
            link.sendall(len(answer).to_bytes(8, "little"))
            link.sendall(answer)


def _exactly(link: socket.socket, size: int) -> bytes:
    """So many bytes; b'' where the other end is gone."""
    found = bytearray(size)
    left = memoryview(found)
    while left:
        try:
            count = link.recv_into(left)
        except OSError:
            return b""
        if not count:
            return b""
        left = left[count:]
    return bytes(found)


if __name__ == "__main__":
    main(int(sys.argv[1]))
