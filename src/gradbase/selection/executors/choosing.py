"""From the plan of a search to its executor."""

from __future__ import annotations

from gradbase.selection.executors.base import Executor
from gradbase.selection.executors.in_process import InProcess
from gradbase.selection.executors.remote_executor import RemoteExecutor, Surroundings


def executor_of(at: Surroundings, workers: int) -> Executor:
    """The executor that the plan of `at.search` names, for `workers` groups at once."""
    search, broker = at.search, at.context.broker
    threads = max(1, min(search.threads or 1, broker.threads))
    match search.executor:
        case "auto" | "in_process":
            return InProcess(search.name, at.context, at.watch, drivers=workers, threads=threads)
        case "processes":
            from gradbase.selection.executors.processes import started

            return RemoteExecutor(
                at, lambda hello, check: started(threads, hello, check),
                workers=workers, threads=threads,
            )  # fmt: skip
        case address:
            from gradbase.selection.executors.on_ray import Cluster

            cluster = Cluster.joined(address, at.most_workers(workers, threads) * threads)
            return RemoteExecutor(
                at, lambda hello, check: cluster.started(threads, hello, check),
                workers=workers, threads=threads, leave=cluster.leave,
            )  # fmt: skip
