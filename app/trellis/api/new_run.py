"""From the body of a create to a NewRun: what the API promises is checked here, and refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import asdict

from trellis.api import body
from trellis.api.schemas import CheckpointConfig, Command, Config, RunCreate, StatelessRunCreate
from trellis.domain.assistants import check_one_given, is_reserved
from trellis.domain.new_run import NewRun
from trellis.errors import Invalid, NotSupported

#: Modes of `stream_mode` that a worker can produce.
STREAM_MODES = (
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "custom",
    "tasks",
    "checkpoints",
    "debug",
    "events",
    "tools",
    "lifecycle",
)


def on_thread(create: RunCreate, request_id: str) -> NewRun:
    """
    What a body asks for on an existing thread.

    :raises Invalid: a value is wrong, or not supported yet.
    :raises BadRequest: values contradict each other.
    """
    if create.on_completion == "delete":
        raise Invalid("on_completion=delete is for runs without a thread. Leave it out.")
    config, forked = _config(create.config, create.context)
    return _new_run(
        create,
        request_id,
        config=config,
        checkpoint=_checkpoint(create.checkpoint, create.checkpoint_id) or forked,
        if_not_exists=create.if_not_exists or "reject",
        multitask_strategy=create.multitask_strategy or "enqueue",
    )


def stateless(create: StatelessRunCreate, request_id: str) -> NewRun:
    """
    What a body asks for on a thread of its own, where every multitask strategy comes to the same.

    :raises Invalid: a value is wrong, or not supported yet.
    :raises BadRequest: values contradict each other.
    """
    config, _ = _config(create.config, create.context)
    return _new_run(
        create,
        request_id,
        config=config,
        on_completion=create.on_completion or "delete",
    )


def stream_modes(given: Sequence[str]) -> tuple[str, ...]:
    """
    The modes named, each once; none named means values.

    :raises Invalid: a mode is unknown.
    """
    for mode in given:
        if mode not in STREAM_MODES:
            raise Invalid(f"stream_mode {mode!r} is not one of: {', '.join(STREAM_MODES)}")
    return tuple(dict.fromkeys(given)) or ("values",)


def _new_run(
    create: StatelessRunCreate,
    request_id: str,
    *,
    config: Mapping[str, Any],
    **rest: Any,
) -> NewRun:
    _refuse_unsupported(create)
    modes = create.stream_mode if create.stream_mode is not None else []
    return NewRun(
        assistant_id=_assistant_id(create.assistant_id),
        input=create.input,
        command=command(create.command),
        config=config,
        context=create.context,
        metadata=body.metadata(create.metadata),
        stream_mode=stream_modes([modes] if isinstance(modes, str) else modes),
        stream_subgraphs=bool(create.stream_subgraphs),
        stream_resumable=bool(create.stream_resumable),
        interrupt_before=create.interrupt_before,
        interrupt_after=create.interrupt_after,
        durability=_durability(create),
        after_seconds=create.after_seconds or 0.0,
        on_disconnect=create.on_disconnect or "continue",
        webhook=create.webhook,
        strict_resume=bool(create.strict_resume),
        request_id=request_id,
        **rest,
    )


def _assistant_id(given: str) -> str:
    """A graph's name as it is, an id in the one spelling that Postgres knows too."""
    try:
        return str(UUID(given)) if "-" in given else given
    except ValueError:
        return given


def _refuse_unsupported(create: StatelessRunCreate) -> None:
    given = {
        "feedback_keys": bool(create.feedback_keys),
        "langsmith_tracer": create.langsmith_tracer is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise NotSupported(f"{name} is not supported yet by this version. Leave it out.")


def _durability(create: StatelessRunCreate) -> str:
    if create.durability is not None:
        return create.durability
    return "exit" if create.checkpoint_during is False else "async"


def _config(
    given: Config | None, context: Mapping[str, Any] | None
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """The config without the server's own keys, and the checkpoint that its configurable named."""
    if given is None:
        return {}, None
    body.metadata(given.metadata)
    config = {key: value for key, value in asdict(given).items() if value is not None}
    sent = config.pop("configurable", None)
    if sent is None:
        return config, None
    config["configurable"] = {key: value for key, value in sent.items() if _is_open(key)}
    check_one_given(config["configurable"], context)
    return config, _checkpoint(body.shape(sent, CheckpointConfig), None)


def _is_open(key: str) -> bool:
    return not (is_reserved(key) or key.startswith(("checkpoint_", "__")))


def _checkpoint(
    given: CheckpointConfig | None, checkpoint_id: str | None
) -> Mapping[str, Any] | None:
    """Where on its thread the run starts; the thread is always the one of the path."""
    given = given or CheckpointConfig()
    checkpoint = {
        "checkpoint_id": given.checkpoint_id or checkpoint_id,
        "checkpoint_ns": given.checkpoint_ns,
        "checkpoint_map": given.checkpoint_map,
    }
    return {key: value for key, value in checkpoint.items() if value} or None


def command(given: Command | None) -> dict[str, Any] | None:
    """
    What a command says: only the keys that were sent, and null says nothing.

    :raises Invalid: its update or its goto has another shape, or it answers null without naming the question.
    """
    if given is None:
        return None
    if given.resume is None and not (given.update or given.goto):
        raise Invalid(
            "command.resume is null, which answers nothing. To answer a question with null, name it: "
            '{"resume": {"<interrupt id>": null}}'
        )
    if isinstance(given.update, list):
        _check_update(given.update)
    _check_goto(given.goto)
    sent = {"update": given.update, "resume": given.resume, "goto": given.goto}
    return {key: value for key, value in sent.items() if value is not UNSET and value is not None}


def _check_update(update: list[Any]) -> None:
    for pair in update:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise Invalid("command.update must be an object, or a list of [key, value] pairs")


def _check_goto(goto: str | dict[str, Any] | list[Any] | None) -> None:
    targets = goto if isinstance(goto, list) else [goto]
    if goto is None or all(isinstance(target, str) for target in targets):
        return
    if not all(_is_send(target) for target in targets):
        raise Invalid(
            'command.goto must be a node, a list of nodes, {"node", "input"}, or a list of those; '
            "nodes and sends cannot be mixed"
        )


def _is_send(target: Any) -> bool:
    return (
        isinstance(target, dict)
        and set(target) >= {"node", "input"}
        and isinstance(target["node"], str)
    )
