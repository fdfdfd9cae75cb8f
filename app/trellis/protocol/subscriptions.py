"""Which events of a thread a client of protocol v2 wants. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trellis.domain import places
from trellis.domain.places import START, Place
from trellis.errors import BadRequest
from trellis.protocol.translate import Namespace, ProtocolEvent, channels

CHANNELS = ("values", "updates", "messages", "tools", "custom", "lifecycle", "input", "tasks")
#: Of an older version of the protocol, and still sent by its clients.
_TOLERATED = "checkpoints"
_CUSTOM = "custom:"
#: Of channels, of namespaces, and of the segments of one.
_MAX_ITEMS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """What a client asked for."""

    channels: frozenset[str]
    prefixes: tuple[Namespace, ...] = ()  #: of namespaces; none means all of them
    depth: int | None = None  #: levels below a prefix; None means all of them
    after: Place = START

    def wants(self, event: ProtocolEvent) -> bool:
        return not self.channels.isdisjoint(channels(event)) and self._covers(event.namespace)

    def _covers(self, namespace: Namespace) -> bool:
        # Without a prefix there is nothing to count from: clients rely on it when they join subscriptions to one.
        return not self.prefixes or any(
            _begins(namespace, prefix)
            and (self.depth is None or len(namespace) - len(prefix) <= self.depth)
            for prefix in self.prefixes
        )


def parse(given: Any) -> Subscription:
    """
    Read the body of a subscription.

    :raises BadRequest: says what is wrong with it.
    """
    if not isinstance(given, dict):
        raise BadRequest("The body must be an object with the channels to subscribe to")
    since = _number(given, "since")
    if since is None and given.get("last_event_id") is not None:
        raise BadRequest("last_event_id says no order. Send since, the seq of the last event.")
    return Subscription(
        channels=_channels(given.get("channels")),
        prefixes=_prefixes(given.get("namespaces")),
        depth=_number(given, "depth"),
        after=places.place_of_seq(since) if since else START,
    )


def _channels(given: Any) -> frozenset[str]:
    if not isinstance(given, list) or not given:
        raise BadRequest("channels is required and must be a non-empty array")
    _check_length("channels", given)
    if unknown := [_shown(each) for each in given if not _is_channel(each)]:
        raise BadRequest(
            f"channels contains unsupported entries: {', '.join(unknown[:10])}. "
            f"Allowed: {', '.join(CHANNELS)}, or any `custom:<name>`."
        )
    return frozenset(given)


def _is_channel(given: Any) -> bool:
    return isinstance(given, str) and (
        given in CHANNELS or given == _TOLERATED or (given.startswith(_CUSTOM) and given != _CUSTOM)
    )


def _prefixes(given: Any) -> tuple[Namespace, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(_is_namespace(each) for each in given):
        raise BadRequest('namespaces must be an array of arrays of strings, e.g. [["child"]]')
    _check_length("namespaces", given)
    return tuple(tuple(each) for each in given)


def _is_namespace(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) <= _MAX_ITEMS
        and all(isinstance(segment, str) for segment in given)
    )


def _number(given: dict[str, Any], name: str) -> int | None:
    value = given.get(name)
    # In JSON 1.0 is 1.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise BadRequest(f"{name} must be a whole number, 0 or more, not {_shown(value)}")


def _check_length(name: str, given: Sequence[Any]) -> None:
    if len(given) > _MAX_ITEMS:
        raise BadRequest(f"{name} has more than {_MAX_ITEMS} items. Name fewer.")


def _shown(value: Any) -> str:
    return str(value)[:40]


def _begins(namespace: Namespace, prefix: Namespace) -> bool:
    """Whether a namespace begins like that. A segment without its `:` and id stands for all with its name."""
    return len(prefix) <= len(namespace) and all(
        segment == wanted or (":" not in wanted and segment.partition(":")[0] == wanted)
        for segment, wanted in zip(namespace, prefix, strict=False)
    )
