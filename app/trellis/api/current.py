"""What the request at hand may use: the process's runtime, its tenant, its own id."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from flask import current_app, g, request

from trellis.db.access import Resource
from trellis.domain.access import Condition, Principal
from trellis.domain.new_run import NewRun
from trellis.domain.users import as_json
from trellis.runtime import Runtime

#: The name under which `create_app` keeps the runtime.
EXTENSION = "trellis"


def rt() -> Runtime:
    """The runtime of this process."""
    return cast(Runtime, current_app.extensions[EXTENSION])


def who() -> Principal:
    """Who the request is from. What is not there for them must not show in any answer."""
    return cast(Principal, g.who)


def tenant_id() -> str:
    """Whose data the request may touch."""
    return who().tenant_id


def condition(resource: Resource) -> Condition | None:
    """
    What the metadata of things found must meet. Every search, count and change of many asks for it.

    An answer without asking, where there is a condition, is not sent: see `api.access`.
    """
    g.asked = g.get("asked", frozenset()) | {resource}
    return cast("Condition | None", g.get("conditions", {}).get(resource))


def signed(new: NewRun, n: int = 0) -> NewRun:
    """The n-th run of the request, with who asks for it and what marks things as theirs."""
    stamps = g.get("stamps", [])
    user = who().user
    return replace(
        new,
        user=None if user is None else as_json(user),
        allowed=g.get("allowed"),
        stamp=stamps[n] if n < len(stamps) else {},
        headers=rt().manifest.http.configurable_headers.chosen(request.headers.items()),
    )


def namespace(given: tuple[str, ...]) -> tuple[str, ...]:
    """The namespace that the request is about: as it was given, or as a handler has it."""
    g.asked = g.get("asked", frozenset()) | {"store"}
    found: tuple[str, ...] = g.get("namespace", given)
    return found


def stamp() -> Mapping[str, Any]:
    """What marks the thing that the request makes as its creator's."""
    return dict(g.stamps[0]) if g.get("stamps") else {}


def request_id() -> str:
    """The request's id: in our logs and in the run's configuration, never taken from a client."""
    if "request_id" not in g:
        g.request_id = str(uuid.uuid4())
    return cast(str, g.request_id)
