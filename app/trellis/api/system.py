"""Routes that tell of the server itself. None of them needs credentials."""

from __future__ import annotations

from importlib.metadata import version
from typing import cast

from flask import Blueprint, Response, current_app, request

import trellis
from trellis.api import body, wire
from trellis.api.current import rt
from trellis.api.metrics import Metrics
from trellis.errors import Invalid
from trellis.services import health

blueprint = Blueprint("system", __name__)

#: The name under which `create_app` keeps the counters.
METRICS = "trellis-metrics"


@blueprint.get("/ok")
def ok() -> Response:
    """Check health; with check_db, that of the database and of Redis too."""
    if "meta" in rt().manifest.http.disabled:
        return wire.answer({"ok": True})
    services = health.check(rt()) if body.flag("check_db") else {}
    healthy = all(state == "ok" for state in services.values())
    return wire.answer({"ok": healthy, "services": services}, status=200 if healthy else 500)


@blueprint.get("/")
def root() -> Response:
    """Check health, as /ok does."""
    return ok()


@blueprint.get("/info")
def info() -> Response:
    """Tell what this server is and can do."""
    return wire.answer(
        {
            "version": trellis.__version__,
            "langgraph_py_version": version("langgraph"),
            "flags": {
                "assistants": True,
                "crons": True,
                "langsmith": False,
                "langsmith_tracing_replicas": False,
                "langsmith_tracing_session_on_runs": False,
                "strict_resume": True,
            },
            "host": {
                "kind": "self-hosted",
                "project_id": None,
                "host_revision_id": None,
                "revision_id": None,
                "tenant_id": None,
            },
        }
    )


@blueprint.get("/metrics")
def metrics() -> Response:
    """Count requests and runs, for Prometheus or as JSON."""
    shape = request.args.get("format") or "prometheus"
    if shape not in ("prometheus", "json"):
        raise Invalid(f"format must be prometheus or json, not {shape[:40]!r}")
    counters = cast(Metrics, current_app.extensions[METRICS])
    queue = health.queue(rt())
    if shape == "json":
        requests = {"http_requests_total": counters.requests()}
        shown = {"queue": queue and wire.queue(queue), "workers": queue and wire.workers(queue)}
        return wire.answer({**shown, "api": requests})
    if queue is not None:
        counters.show_runs(pending=queue["n_pending"], running=queue["n_running"])
        counters.show_workers(wire.workers(queue))
    if (reader := rt().reader) is not None:
        counters.show_streams(reader)
    return Response(counters.text(), content_type="text/plain; version=1.0.0; charset=utf-8")
