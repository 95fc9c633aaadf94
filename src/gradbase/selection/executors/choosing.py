"""From the plan of a search to its executor."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING

from gradbase.selection.executors.base import Executor
from gradbase.selection.executors.in_process import InProcess
from gradbase.selection.executors.remote_executor import RemoteExecutor, Surroundings
from gradbase.selection.executors.supplying import TARGETED

if TYPE_CHECKING:
    from gradbase.ir.learning import Search
    from gradbase.runtime.context import RunContext


@contextlib.contextmanager
def one_state(search: Search, context: RunContext) -> Generator[RunContext]:
    """Where workers ask for rows by themselves: all read the state that is committed now."""
    engine = context.engine
    if search.access != TARGETED or not engine.capabilities.side_tables:
        yield context
        return
    with engine.frozen() as reader:
        yield dataclasses.replace(context, engine=reader)


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
                host=cluster.host,
            )  # fmt: skip
