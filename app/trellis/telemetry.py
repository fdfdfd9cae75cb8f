"""What the processes say: structured log lines, one event name per thing that happens."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from io import TextIOWrapper

import structlog

from trellis.settings import Settings

#: Log events. INFO once per start and end of a run; everything else DEBUG or WARNING.
RUN_CLAIMED = "run.claimed"
RUN_FINISHED = "run.finished"
RUN_FENCED = "run.fenced"
RUN_RELEASED = "run.released"
RUN_LOST = "run.lost"
RUN_RESCUED = "run.rescued"
RESCUE_FAILED = "rescue.failed"
GRAPH_FAILED = "graph.failed"
MANIFEST_WARNED = "manifest.warned"  #: langgraph.json asks for what has no effect
LEASE_LATE = "lease.late"
LOOP_BLOCKED = "loop.blocked"
WRITER_RETRY = "writer.retry"
DATABASE_RETRY = "database.retry"
ANNOUNCE_FAILED = "announce.failed"
SIGNAL_FAILED = "signal.failed"
CANCEL_FAILED = "cancel.failed"
RUN_CANCELLED = "run.cancelled"
RUN_UNREADABLE = "run.unreadable"  #: an encryption handler did not open what a run is to do
RUN_ABANDONED = "run.abandoned"
PROCESS_STUCK = "process.stuck"  #: with nodes that ignore that their runs are over
RUN_BROKEN = "run.broken"  #: not by its graph
REPLACEMENT_FAILED = "replacement.failed"  #: of what a decryptor wants stored anew
PRIORITY_FAILED = "priority.failed"  #: the operator's hook
CACHE_FAILED = "cache.failed"  #: langgraph_sdk.cache
ASSISTANTS_WAITING = "assistants.waiting"  #: for the database, to be given their defaults
WEB_FAILED = "web.failed"  #: the process cannot serve, or did not end well
STORE_FAILED = "store.failed"  #: the operator's own store
CHECKPOINTER_FAILED = "checkpointer.failed"  #: the operator's own checkpointer
PLUGGED_FAILED = "plugged.failed"  #: what the operator plugged in by path
STATE_REFUSED = "state.refused"  #: a graph's code refuses its own state, or a change of it
REQUEST_FAILED = "request.failed"
AUTH_FAILED = "auth.failed"
AUTH_UNGUARDED = "auth.unguarded"
WEBHOOK_DELIVERED = "webhook.delivered"
WEBHOOK_FAILED = "webhook.failed"
CRON_FIRED = "cron.fired"
CRON_FAILED = "cron.failed"
WORKER_READY = "worker.ready"
WORKER_DRAINING = "worker.draining"
WORKER_DIED = "worker.died"
WORKER_NOT_STARTED = "worker.not_started"
WORKER_RECYCLED = "worker.recycled"
PRESENCE_FAILED = "presence.failed"
QUARANTINE_BEGUN = "quarantine.begun"
QUARANTINE_FAILED = "quarantine.failed"
LEASES_EXPIRED = "leases.expired"
CHORE_FAILED = "chore.failed"
APP_LIFESPAN = "app.lifespan"  #: the operator's own app has none
STREAM_DROPPED = "stream.dropped"  #: events that waited for Redis
STREAM_REDIS_DOWN = "stream.redis_down"
STREAM_REFUSED = "stream.refused"  #: by Redis: events of a run
STREAM_READER_FAILED = "stream.reader_failed"
STREAM_UNBLOCK_REFUSED = "stream.unblock_refused"


class _Printer(structlog.PrintLogger):
    """Prints a line if it can. Nobody leases, sweeps or commits less because the reader of the log is gone, or a disk full."""

    def msg(self, message: str) -> None:
        # ValueError: user code has closed the file.
        with suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = critical = exception = msg


def configure(settings: Settings) -> None:
    """Send every log line of this process to stdout, as key=value or as one JSON object."""
    if isinstance(sys.stdout, TextIOWrapper):
        # A locale without the character, or half of a pair.
        sys.stdout.reconfigure(errors="backslashreplace")
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(colors=_is_colored(settings), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(settings.log_level)
        ),
        logger_factory=lambda *_: _Printer(sys.stdout),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stdout, level=max(logging.WARNING, _level(settings)))


def _is_colored(settings: Settings) -> bool:
    return sys.stdout.isatty() if settings.log_color is None else settings.log_color


def _level(settings: Settings) -> int:
    level: int = logging.getLevelName(settings.log_level)
    return level


def log() -> structlog.stdlib.BoundLogger:
    """The logger: `log().info(RUN_CLAIMED, run_id=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger
