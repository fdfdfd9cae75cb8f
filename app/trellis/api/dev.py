"""Routes that only a development server has."""

from __future__ import annotations

from flask import Blueprint, Response, request

from trellis.api import body, wire
from trellis.api.current import rt, tenant_id
from trellis.api.schemas import Truncate
from trellis.errors import Invalid
from trellis.services.truncate import Kinds, truncate

blueprint = Blueprint("dev", __name__)


@blueprint.post("/internal/truncate")
def truncate_all() -> Response:
    """Delete everything of some kinds, for test suites; `trellis dev` only."""
    # Any page that a browser here looks at could send this.
    if "Origin" in request.headers:
        raise Invalid("This is not for browsers. Send it without an Origin header.")
    wanted = body.json_body(Truncate)
    kinds = Kinds(
        runs=wanted.runs,
        threads=wanted.threads,
        assistants=wanted.assistants,
        store=wanted.store,
        checkpoints=wanted.checkpoints or wanted.checkpoint or wanted.checkpointer,
    )
    truncate(rt(), tenant_id(), kinds)
    return wire.answer({"ok": True})
