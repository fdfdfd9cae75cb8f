"""One worker process: a Celery threads pool over one event loop, or a quarantine, which needs no broker.

Started by its parent with a token and a line to it.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from functools import partial

from celery import signals
from celery.exceptions import SecurityWarning
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import runs
from trellis.db import workers as worker_rows
from trellis.db.encryption import check_key
from trellis.dispatch.signals import Listener
from trellis.domain.runs import Ward
from trellis.errors import GraphLoadError, TrellisError
from trellis.services import crons
from trellis.settings import load
from trellis.stream.log import append_ends
from trellis.telemetry import (
    DATABASE_RETRY,
    MANIFEST_WARNED,
    QUARANTINE_BEGUN,
    WORKER_READY,
    configure,
    log,
)
from trellis_workers import celery, publish, quarantine, tasks
from trellis_workers.channel import (
    CANNOT_START,
    DRAINING,
    READY,
    RESCUE,
    WORN,
    Channel,
    owner,
)
from trellis_workers.drain import Drain
from trellis_workers.executor import Executor
from trellis_workers.host import Host, build, close
from trellis_workers.maintenance import dispatcher, pruner, reporter, rescuer
from trellis_workers.maintenance.chores import Chore, Chores
from trellis_workers.maintenance.leaver import Leaver

#: The parent that saw a process die starts a quarantine at once; others only when nobody has for this long.
_OVERDUE_SECONDS = 4.0


def main(token: str, descriptor: int, ward: Ward) -> int:
    """Run until SIGTERM. Exit code 0 after a drain, 2 when the process cannot start."""
    # A crash of a C extension says where it was.
    faulthandler.enable()
    line = Channel(descriptor)
    try:
        settings = load()
        configure(settings)
        # Celery's warning is about pickled messages of a root worker; ours accept nothing but JSON.
        warnings.simplefilter("ignore", SecurityWarning)
        host = build(settings, owner=owner(os.getpid(), token))
        _ = host.registry.trusted
        _ = host.rt.priority
        _meet_database(host)
    except TrellisError as error:
        print(f"trellis worker: {error}", file=sys.stderr)
        return CANNOT_START
    # In the main thread and before any run: a user's module may take seconds, or call asyncio.run().
    errors = host.registry.load_all()
    # What has been imported stays: collections need not look at it again and again.
    gc.collect()
    gc.freeze()
    # A superstep allocates thousands of objects that live on: looking for garbage less often saves a twentieth of the CPU.
    gc.set_threshold(20_000, 20, 50)
    if ward is Ward.OPEN:
        _work(host, line, errors)
    else:
        _isolate(host, line, ward)
    return 0


def _meet_database(host: Host) -> None:
    """
    Wait until the database is there: without it there is nothing to do.

    :raises ConfigError: what is there was encrypted with a key that is missing here.
    """
    while True:
        try:
            check_key(host.engine)
        except SQLAlchemyError as error:
            log().warning(DATABASE_RETRY, error=str(error).split("\n")[0])
            time.sleep(0.5)
        else:
            return


def _isolate(host: Host, line: Channel, ward: Ward) -> None:
    """Execute suspects until there are none, or until SIGTERM."""
    executor = Executor(host, worn=lambda: None, ward=ward)
    leaving = Drain(host, executor, begun=lambda: line.say(DRAINING))
    listener = _listener(host)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: leaving.begin())
    # Not left to the processes beside it: there may be none at the moment.
    chores = Chores([_rescue(host)])
    line.listen({RESCUE: lambda: chores.hasten("rescue", seconds=0)})
    log().info(QUARANTINE_BEGUN, ward=ward)
    line.say(READY)
    quarantine.work(host, executor, leaving, ward)
    chores.close()
    listener.close()
    close(host)


def _listener(host: Host) -> Listener:
    """Has the end of runs that somebody asked for seen at once."""
    settings = host.settings
    return Listener(
        settings.redis_url, key_prefix=settings.redis_key_prefix, heard=host.keeper.look
    )


def _work(host: Host, line: Channel, errors: list[GraphLoadError]) -> None:
    """Execute runs until SIGTERM, then drain."""
    executor = Executor(host, worn=lambda: line.say(WORN))
    leaving = Drain(host, executor, begun=lambda: line.say(DRAINING))
    app = celery.new_app(host.settings)
    tasks.register(app, host, executor)
    chores = Chores(_chores(host, executor, line))
    listener = _listener(host)

    def ready() -> None:
        _ready(host, errors)
        line.say(READY)

    signals.worker_shutting_down.connect(
        lambda **_: leaving.begin(), weak=False, dispatch_uid="drain"
    )
    signals.worker_ready.connect(lambda **_: ready(), weak=False, dispatch_uid="ready")

    def rescue() -> None:
        executor.bereave()
        chores.hasten("rescue", seconds=0)

    line.listen({RESCUE: rescue})
    app.worker_main(_arguments(host))
    # Runs that were found without a broker are in no slot of Celery's, which has not waited for them.
    leaving.wait()
    chores.close()
    reporter.leave(host.engine, host.owner)
    listener.close()
    close(host)


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
    for warning in host.manifest.warnings:
        log().warning(MANIFEST_WARNED, says=warning)
    threading.Thread(
        target=publish.publish, args=(host, errors), name="publish", daemon=True
    ).start()


def _chores(host: Host, executor: Executor, line: Channel) -> list[Chore]:
    def dispatch() -> int:
        if host.draining.is_set():
            return 0
        free = host.settings.slots - len(executor.attempts)
        return dispatcher.dispatch(
            host.engine, host.announcer, executor, host.loop, free_slots=free
        )

    def isolate() -> int:
        with host.engine.begin() as tx:
            wards = (Ward.SHARED, Ward.ALONE)
            seen = [w for w in wards if runs.suspects(tx, w, overdue_seconds=_OVERDUE_SECONDS)]
        for ward in seen:
            line.say(ward)
        return len(seen)

    def report() -> int:
        return reporter.report(
            host.engine, host.owner, slots=host.settings.slots, draining=host.draining
        )

    ttl = host.manifest.thread_ttl
    return [
        Chore("report", worker_rows.EVERY_SECONDS, report),
        Chore("dispatch", 1.0, dispatch),
        Chore("isolate", 1.0, isolate),
        # A run that was brought back is due after its pause: look again then.
        _rescue(host, then=("dispatch", rescuer.BACKOFF_SECONDS)),
        # More than one look's worth may be due: at once again, until nothing is.
        Chore("crons", 1.0, lambda: crons.fire(host.rt), then=("crons", 0.0)),
        Chore("leave", 2.0, Leaver(host.engine, host.signals, host.announcer, _teller(host))),
        Chore("time out", 2.0, lambda: rescuer.time_out(host.engine, host.signals)),
        # A busy installation leaves more than one look's worth behind.
        Chore(
            "prune threads",
            5.0,
            lambda: pruner.prune_temporary_threads(host.engine),
            then=("prune threads", 1.0),
        ),
        Chore(
            "prune records",
            5.0,
            lambda: pruner.prune_records(host.engine),
            then=("prune records", 1.0),
        ),
        Chore("count threads", 5.0, lambda: pruner.count_threads(host.engine)),
        Chore(
            "expire",
            60 * ttl.sweep_interval_minutes,
            lambda: pruner.expire(host.engine, limit=ttl.sweep_limit),
        ),
        # Seldom, maybe, but then to the end.
        Chore(
            "prune store",
            _sweep_seconds(host),
            lambda: pruner.prune_store(host.engine),
            then=("prune store", 0.1),
        ),
    ]


def _rescue(host: Host, then: tuple[str, float] | None = None) -> Chore:
    return Chore("rescue", 2.0, lambda: rescuer.rescue(host.engine, _teller(host)), then)


def _teller(host: Host) -> rescuer.Tell:
    """Has the ends of runs seen that no worker tells of."""
    return partial(append_ends, host.rt.redis, host.settings.redis_key_prefix)


def _sweep_seconds(host: Host) -> float:
    minutes = host.manifest.store.ttl.sweep_minutes
    return 5.0 if minutes is None else minutes * 60


if __name__ == "__main__":
    # os._exit: threads of user code that ignore cancellation must not keep a drained process alive.
    code = 1
    try:
        code = main(sys.argv[1], int(sys.argv[2]), Ward(sys.argv[3]))
    except BaseException:
        with suppress(OSError, ValueError):
            traceback.print_exc()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)
