"""The exception tree. Each class knows its HTTP status, and nothing of Flask.

TrellisError
├── BadRequest            400  the request contradicts itself
├── Invalid               422  the request cannot be understood
│   └── NotSupported      422  understood, and not available yet
├── Denied               401  or 403, or what the user's auth handler says
├── NotFound              404
├── Conflict              409
├── EmbeddingFailed       502  the store's embedding function failed; nothing was written
├── StoreFailed           502  the operator's own store failed
├── CheckpointerFailed    502  the operator's own checkpointer failed
├── EncryptionFailed      502  an encryption handler of the operator's failed
├── CommandError          200  a command of protocol v2 that the protocol refuses with a code of its own
├── NotCounted            501  only the operator's own checkpointer knows
├── Unavailable           503  a dependency is down; nothing was written
├── Undecipherable        500  what is stored was changed, or comes from another row
│   └── KeyMissing        503  it was encrypted with a key, or by handlers, that this process does not have
├── ConfigError                the process cannot start
├── GraphLoadError             the user's graph could not be imported
├── UnknownInterruptError      a run answers a question that does not wait
└── Fenced                     another attempt owns the run
"""

from __future__ import annotations

from collections.abc import Mapping


class TrellisError(Exception):
    """Something a caller must not ignore."""

    status = 500

    @property
    def detail(self) -> str:
        return str(self)


class BadRequest(TrellisError):
    """The request contradicts itself."""

    status = 400


class Invalid(TrellisError):
    """The request cannot be understood."""

    status = 422


class NotSupported(Invalid):
    """The request is understood, but this version cannot honour it."""


class Denied(TrellisError):
    """Whoever asks is not let in, or may not do this."""

    def __init__(
        self, detail: str, *, status: int = 401, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})


class NotFound(TrellisError):
    """No such thing, or not yours."""

    status = 404


class Conflict(TrellisError):
    """The thing is in a state that forbids the request."""

    status = 409


class EmbeddingFailed(TrellisError):
    """The store's embedding function failed, or returned nonsense. Nothing was written."""

    status = 502

    def __init__(self, how: str) -> None:
        super().__init__(f"The embedding function of the store {how}. The server's log says more.")


class StoreFailed(TrellisError):
    """The operator's own store failed. What it has done by then, only it knows."""

    status = 502

    def __init__(self, how: str) -> None:
        super().__init__(f"The store {how}. The server's log says more.")


class CheckpointerFailed(TrellisError):
    """The operator's own checkpointer failed. What it has kept by then does not count."""

    status = 502

    def __init__(self, how: str) -> None:
        super().__init__(f"The checkpointer {how}. The server's log says more.")


class EncryptionFailed(TrellisError):
    """A handler of `encryption.path` failed. What was to be written was not written."""

    status = 502

    def __init__(self, how: str) -> None:
        super().__init__(f"An encryption handler {how}. The server's log says more.")


class CommandError(TrellisError):
    """A command of protocol v2 is refused with one of the protocol's codes."""

    status = 200

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotCounted(TrellisError):
    """Only the operator's own checkpointer could tell."""

    status = 501


class Unavailable(TrellisError):
    """A dependency is down. Nothing was written; the client may try again."""

    status = 503
    retry_after_seconds = 2


class Undecipherable(TrellisError):
    """What is stored cannot be decrypted: its key is missing, or it is not what was written there."""


class KeyMissing(Undecipherable):
    """What is stored is as it was written, and this process was not given what decrypts it."""

    status = 503


class ConfigError(TrellisError):
    """The process cannot start. The message names the variable or the file, and what it takes."""


class GraphLoadError(TrellisError):
    """The user's graph could not be imported. The message names file and line."""

    def __init__(self, graph_id: str, reason: str) -> None:
        super().__init__(f"Graph '{graph_id}' failed to load: {reason}")
        self.graph_id = graph_id
        self.reason = reason


class UnknownInterruptError(TrellisError):
    """A run with strict_resume answers a question that does not wait. Clients know it by this name."""


class Fenced(TrellisError):
    """Another attempt owns the run; whatever this one does now must not count."""


class ThreadNotFound(NotFound):
    def __init__(self, thread_id: str) -> None:
        super().__init__(f"Thread with ID {thread_id} not found")
