"""`python -m trellis_workers`: one worker process, a Celery threads pool over one event loop."""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings

from celery import signals
from celery.exceptions import SecurityWarning

from trellis.dispatch.signals import Listener
from trellis.errors import GraphLoadError, TrellisError
from trellis.settings import load
from trellis.telemetry import WORKER_READY, configure, log
from trellis_workers import celery, drain, publish, tasks
from trellis_workers.executor import Executor
from trellis_workers.host import Host, build, close
from trellis_workers.maintenance import dispatcher, pruner, rescuer
from trellis_workers.maintenance.chores import Chore, Chores


def main() -> int:
    """Run until SIGTERM. Exit code 0 after a drain, 2 when the process cannot start."""
    try:
        settings = load()
        configure(settings)
        # Celery's warning is about pickled messages of a root worker; ours accept nothing but JSON.
        warnings.simplefilter("ignore", SecurityWarning)
        host = build(settings)
    except TrellisError as error:
        print(f"trellis worker: {error}", file=sys.stderr)
        return 2
    # In the main thread and before any run: a user's module may take seconds, or call asyncio.run().
    errors = host.registry.load_all()
    # What has been imported stays: collections need not look at it again and again.
    gc.collect()
    gc.freeze()
    executor = Executor(host)
    app = celery.new_app(settings)
    tasks.register(app, host, executor)
    signals.worker_shutting_down.connect(
        lambda **_: drain.drain(host, executor), weak=False, dispatch_uid="drain"
    )
    signals.worker_ready.connect(lambda **_: _ready(host, errors), weak=False, dispatch_uid="ready")
    chores = Chores(_chores(host, executor))
    listener = Listener(
        settings.redis_url, key_prefix=settings.redis_key_prefix, heard=host.keeper.look
    )
    app.worker_main(
        _arguments(host),
    )
    chores.close()
    listener.close()
    close(host)
    return 0


def _arguments(host: Host) -> list[str]:
    events = ["--task-events"] if host.settings.task_events else []
    return [
        "--quiet",
        "worker",
        "--pool=threads",
        f"--concurrency={host.settings.slots}",
        f"--hostname=trellis-{os.getpid()}@%h",
        # Workers need not know each other: Postgres arbitrates. Saves connections and start-up time.
        "--without-gossip",
        "--without-mingle",
        "--loglevel=WARNING",
        *events,
    ]


def _ready(host: Host, errors: list[GraphLoadError]) -> None:
    log().info(WORKER_READY, graphs=list(host.manifest.graphs), slots=host.settings.slots)
    threading.Thread(
        target=publish.publish, args=(host, errors), name="publish", daemon=True
    ).start()


def _chores(host: Host, executor: Executor) -> list[Chore]:
    def dispatch() -> int:
        if host.draining.is_set():
            return 0
        free = host.settings.slots - len(executor.attempts)
        return dispatcher.dispatch(
            host.engine, host.announcer, executor, host.loop, free_slots=free
        )

    return [
        Chore("dispatch", 1.0, dispatch),
        Chore("rescue", 2.0, lambda: rescuer.rescue(host.engine)),
        Chore("time out", 2.0, lambda: rescuer.time_out(host.engine, host.signals)),
        Chore("prune", 5.0, lambda: pruner.prune(host.engine)),
    ]


if __name__ == "__main__":
    # os._exit: threads of user code that ignore cancellation must not keep a drained process alive.
    code = main()
    sys.stdout.flush()
    os._exit(code)
