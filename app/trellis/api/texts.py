"""Texts of a form of their own, as /openapi.json describes them. What checks them explains more than a pattern could."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from trellis.api.wire import STATE_FIELDS

_HEX = "[0-9a-fA-F]"

#: As `body.identifier` wants it.
Id = Annotated[
    str,
    Meta(
        extra_json_schema={
            "format": "uuid",
            "pattern": f"^{_HEX}{{8}}-({_HEX}{{4}}-){{3}}{_HEX}{{12}}$",
        }
    ),
]
Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
#: One word of a namespace of the store.
Label = Annotated[str, Meta(extra_json_schema={"pattern": r"^[^.]+$"})]
#: A field of a state, or one value in it: `values.<key>`.
StatePart = Annotated[
    str, Meta(extra_json_schema={"pattern": rf"^({'|'.join(STATE_FIELDS)})(\.|$)"})
]
