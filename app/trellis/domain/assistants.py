"""What an assistant's settings and a run's become together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.errors import BadRequest

#: Keys of `configurable` that only the server sets; a client's are dropped (security: mass assignment).
_RESERVED_PREFIXES = (
    "__pregel_",
    "__trellis_",
    "langgraph_auth_user",
    "langgraph_auth_permissions",
)
_RESERVED = frozenset(
    {"run_id", "thread_id", "graph_id", "assistant_id", "cron_id", "langgraph_request_id"}
)


def is_reserved(key: str) -> bool:
    """Whether a key of `configurable` is the server's to set."""
    return key in _RESERVED or key.startswith(_RESERVED_PREFIXES)


def check_one_given(configurable: Mapping[str, Any] | None, context: Any) -> None:
    """
    Refuse settings that are given twice.

    :raises BadRequest: both are given, and only one can count.
    """
    if configurable and context:
        raise BadRequest(
            "Cannot specify both configurable and context. Prefer setting context alone. Context "
            "was introduced in LangGraph 0.6.0 and is the long term planned replacement for "
            "configurable."
        )


def aligned(
    config: Mapping[str, Any] | None, context: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The config and the context that an assistant keeps: giving `context` or `configurable` fills the other.

    :raises BadRequest: both are given.
    """
    kept = dict(config or {})
    configurable = _open(kept.pop("configurable", None) or {})
    check_one_given(configurable, context)
    configurable = _open(context) if context else configurable
    return (
        {**kept, "configurable": configurable} if configurable else kept,
        dict(context or configurable),
    )


def merge_config(
    assistant: Mapping[str, Any], run: Mapping[str, Any], *, configurable: Mapping[str, Any]
) -> dict[str, Any]:
    """The run's config: tags and recursion limit of the run win as a whole, `configurable` key by key."""
    merged = {key: value for key, value in {**assistant, **run}.items() if key != "metadata"}
    merged["configurable"] = {
        **assistant.get("configurable", {}),
        **{k: v for k, v in run.get("configurable", {}).items() if not is_reserved(k)},
        **configurable,
    }
    return merged


def mirrored(config: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
    """The run's config with its context in `configurable`: giving one fills the other."""
    if not isinstance(context, Mapping):
        return config
    return {**config, "configurable": {**config.get("configurable", {}), **_open(context)}}


def merge_context(
    assistant_context: Any,
    assistant_config: Mapping[str, Any],
    run_context: Any,
    run_config: Mapping[str, Any],
) -> Any:
    """
    The run's context. `context` and `configurable` mirror each other: giving one fills the other.

    A context that is no object replaces the assistant's.
    """
    if run_context is not None and not isinstance(run_context, Mapping):
        return run_context
    base = assistant_context or assistant_config.get("configurable", {})
    return {**base, **(run_context or _open(run_config.get("configurable", {})))}


def _open(configurable: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in configurable.items()
        if not is_reserved(key) and not key.startswith(("checkpoint_", "__"))
    }
