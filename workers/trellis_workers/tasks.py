"""The Celery tasks: one per graph, each a hint to look at a run."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from trellis.dispatch.announce import task_name
from trellis_workers.executor import Executor
from trellis_workers.host import Host


def register(app: Celery, host: Host, executor: Executor) -> None:
    """Make this worker execute the runs of every graph in its manifest."""

    for graph_id in host.manifest.graphs:
        app.task(name=task_name(graph_id))(_task(host, executor, graph_id))


def _task(host: Host, executor: Executor, graph_id: str) -> Callable[[str], None]:
    def execute(run_id: str) -> None:
        executor.heard()
        host.wait(executor.execute(run_id, graph_id))

    return execute
