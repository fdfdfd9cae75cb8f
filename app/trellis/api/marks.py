"""What authorization handlers leave of what they are shown: with it they mark whose a thing is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from trellis import telemetry
from trellis.api import body
from trellis.errors import Denied, Invalid


def plain(item: Any) -> Any:
    """
    What a handler left, as JSON.

    :raises Denied: it is none that can be stored: such a handler has failed, and a failed one allows nothing.
    """
    try:
        return body.load(orjson.dumps(item, default=str))
    except (orjson.JSONEncodeError, Invalid) as error:
        telemetry.log().error(
            telemetry.AUTH_FAILED, error=f"What a handler left is no JSON: {error}"
        )
        raise Denied("Forbidden", status=403) from None


def added(before: Mapping[str, Any], after: Any) -> dict[str, Any]:
    """
    What the handler added to the metadata: a thread that is made for the run gets it as well.

    :raises Denied: it left no object.
    """
    if not isinstance(after, dict):
        raise Denied("Forbidden", status=403)
    return {key: item for key, item in after.items() if before.get(key) != item}
