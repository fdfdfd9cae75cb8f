"""What the request at hand may use: the process's runtime, its tenant, its own id."""

from __future__ import annotations

import uuid
from typing import cast

from flask import current_app, g

from trellis.runtime import Runtime

#: The name under which `create_app` keeps the runtime.
EXTENSION = "trellis"


def rt() -> Runtime:
    """The runtime of this process."""
    return cast(Runtime, current_app.extensions[EXTENSION])


def tenant_id() -> str:
    """Whose data the request may touch."""
    return "default"


def request_id() -> str:
    """The request's id: in our logs and in the run's configuration, never taken from a client."""
    if "request_id" not in g:
        g.request_id = str(uuid.uuid4())
    return cast(str, g.request_id)
