"""Units in actors of a Ray cluster; messages, and so states, go through its object store.

What Ray serialises are bytes of ours: its workers unpickle nothing that a store or a user gave.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from gradbase.errors import EngineError, UnsupportedError
from gradbase.selection.executors.base import WorkerLost
from gradbase.selection.executors.messages import told
from gradbase.selection.executors.worker import Worker

LOCAL = "ray"
_POLL_S = 0.1
START_S = 120.0
"""How long a cluster may take to start an actor."""


class Cluster:
    """A Ray cluster that this process is connected to.

    Parameters
    ----------
    ours : bool
        Whether it was joined for this search, and is left afterwards.
    local : bool
        Whether it was started here.
    """

    def __init__(self, ray: Any, *, ours: bool, local: bool) -> None:
        self._ray, self._ours, self._local = ray, ours, local

    @classmethod
    def joined(cls, address: str, cpus: int) -> Cluster:
        """The cluster at `address`; ``ray``: the one of this process or of RAY_ADDRESS, or a new
        one on this machine with so many `cpus`.

        Raises
        ------
        UnsupportedError
            Ray is not installed.
        EngineError
            The cluster cannot be reached.
        """
        ray = _ray()
        if ray.is_initialized():
            return cls(ray, ours=False, local=False)
        where = None if address == LOCAL else address
        local = where is None and not os.environ.get("RAY_ADDRESS")
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        started = {"num_cpus": cpus, "include_dashboard": False} if local else {}
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning
        try:
            ray.init(address="local" if local else where, **quiet, **started)
        except Exception as error:
            at = where or os.environ.get("RAY_ADDRESS") or "this machine"
            raise EngineError(
                f"the Ray cluster at {at} cannot be reached: {_first_line(error)}",
                hint="start it (ray start --head), correct the address, or use executor = "
                "'processes'; RESUME SEARCH goes on with what was trained",
            ) from error
        return cls(ray, ours=True, local=local)

    def started(
        self, threads: int, hello: bytes, check: Callable[[], None]
    ) -> tuple[RayLink, bytes]:
        """A new worker, and its answer to `hello`.

        Raises
        ------
        EngineError
            The cluster has no place for it, or no gradbase.
        """
        until = time.monotonic() + START_S

        def in_time() -> None:
            check()
            if time.monotonic() > until:
                raise EngineError(
                    f"the Ray cluster has started no worker with {threads} CPUs in {START_S:g} s: "
                    f"of {self._ray.cluster_resources().get('CPU', 0):g} CPUs "
                    f"{self._ray.available_resources().get('CPU', 0):g} are free",
                    hint="fewer workers, or a smaller threads_per_unit; or wait until others end",
                )

        path = os.pathsep.join(p for p in sys.path if p)
        how: dict[str, Any] = {"num_cpus": threads, "max_restarts": 0}
        if self._local:
            how["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
        link = RayLink(self._ray, self._ray.remote(**how)(RayWorker).remote())
        try:
            return link, link.ask(hello, in_time)
        except WorkerLost as lost:
            link.close()
            raise EngineError(
                f"a worker on Ray could not start: {lost}",
                hint="gradbase must be installed on every node, in the same version as here",
            ) from lost
        except BaseException:
            link.close()
            raise

    @property
    def host(self) -> str:
        """Where its workers reach this process."""
        return self._ray.util.get_node_ip_address()

    def leave(self) -> None:
        """Disconnect, unless the cluster is the user's own."""
        if self._ours:
            self._ray.shutdown()


class RayWorker:
    """What runs in an actor."""

    def __init__(self) -> None:
        self._worker = Worker()

    def handle(self, message: bytes) -> bytes:
        """See `Worker.handle`."""
        return self._worker.handle(message)


class RayLink:
    """See `base.Link`."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def ask(self, message: bytes, check: Callable[[], None]) -> bytes:
        ray = self._ray
        try:
            answer = self._actor.handle.remote(ray.put(message))
            while not ray.wait([answer], timeout=_POLL_S)[0]:
                check()
            return ray.get(answer)
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise WorkerLost(_first_line(error)) from error

    def close(self) -> None:
        self._ray.kill(self._actor, no_restart=True)


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "Ray is not installed", hint="pip install 'gradbase[ray]'"
        ) from error
    return ray


def _first_line(error: BaseException) -> str:
    return told(error)["text"].strip().splitlines()[0] if isinstance(error, Exception) else "?"
