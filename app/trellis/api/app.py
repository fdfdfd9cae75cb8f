"""The Flask application: routes, errors as JSON, cross-origin rules, request counters."""

from __future__ import annotations

import time
from http import HTTPMethod
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, NotFound

from trellis.api import (
    access,
    assistants,
    body,
    commands,
    cors,
    crons,
    current,
    dev,
    feeds,
    idempotency,
    openapi,
    refusals,
    routing,
    runs,
    state,
    store,
    system,
    threads,
    wire,
)
from trellis.api.current import EXTENSION
from trellis.api.metrics import Metrics
from trellis.db.engine import is_conflict, is_too_slow, is_unavailable
from trellis.errors import Invalid, TrellisError, Unavailable
from trellis.runtime import Runtime

_BLUEPRINTS = (
    system.blueprint,
    openapi.blueprint,
    assistants.blueprint,
    threads.blueprint,
    state.blueprint,
    runs.blueprint,
    commands.blueprint,
    feeds.blueprint,
    store.blueprint,
    crons.blueprint,
)

#: The groups of routes that `disable_…` of langgraph.json can switch off, by blueprint.
_GROUPS = {"assistants": "assistants", "threads": "threads", "state": "threads", "runs": "runs"}
_GROUPS |= {"store": "store", "crons": "runs", "commands": "runs", "feeds": "threads"}

_TOO_SLOW = "The database took too long with this. Try again, or ask for less at once."


def create_app(rt: Runtime) -> Flask:
    """Make the application of a process. Reads and writes nothing by itself."""
    app = Flask("trellis", static_folder=None)
    app.url_rule_class = routing.IdRule
    # Werkzeug would answer `/threads//state`, sent with an empty id, with a redirect in HTML to another resource.
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = rt.settings.max_body_bytes
    app.extensions[EXTENSION] = rt
    app.extensions[system.METRICS] = metrics = Metrics()
    disabled = rt.manifest.http.disabled
    for blueprint in _BLUEPRINTS:
        if _GROUPS.get(blueprint.name) not in disabled:
            app.register_blueprint(blueprint)
    if rt.settings.dev:
        app.register_blueprint(dev.blueprint)
    app.before_request(_start)
    app.before_request(access.check)
    app.after_request(access.verify)
    app.after_request(lambda response: cors.tell(rt.manifest.http.cors, response))
    app.after_request(idempotency.tell)
    app.after_request(lambda response: _count(metrics, response))
    app.register_error_handler(TrellisError, refusals.explain)
    app.register_error_handler(HTTPException, _refuse)
    app.register_error_handler(Exception, _failed)
    return app


def _start() -> Response | None:
    """Answer a preflight, and refuse what no path or parameter can mean."""
    g.started = time.perf_counter()
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return cors.preflight(current.rt().manifest.http.cors)
    if commands.FRAME in request.environ:
        cors.refuse_socket(current.rt().manifest.http.cors)
    if "meta" in current.rt().manifest.http.disabled and request.path in access.OPEN - {"/ok"}:
        raise NotFound
    if "\0" in request.path or "%00" in request.query_string.decode("latin1"):
        raise Invalid(f"The URL {body.NUL}")
    return None


def _count(metrics: Metrics, response: Response) -> Response:
    rule = request.url_rule.rule if request.url_rule else ""
    seconds = time.perf_counter() - g.started
    # Clients may make methods up, and each would be a series for ever.
    method = request.method if request.method in HTTPMethod.__members__ else "OTHER"
    metrics.count(method, rule, status=response.status_code, seconds=seconds)
    return response


def _refuse(error: HTTPException) -> Response:
    """What Flask itself refuses: no such route, wrong method, body too large."""
    allowed: Any = getattr(error, "valid_methods", None)
    headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
    return wire.answer({"detail": error.name}, status=error.code or 500, headers=headers)


def _failed(error: Exception) -> Response:
    """The last edge: the database is out of reach or at its limits, or it is ours to find by the request's id."""
    if is_unavailable(error) or is_conflict(error):
        return refusals.explain(Unavailable("The database is not available right now. Try again."))
    if is_too_slow(error):
        return refusals.explain(Unavailable(_TOO_SLOW))
    refusals.report(error)
    return Response("Internal Server Error", status=500, content_type="text/plain; charset=utf-8")
