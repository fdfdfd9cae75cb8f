"""The settings of every connection to Postgres."""

from __future__ import annotations

from typing import Any

#: Session settings (run-protocol §3). A frozen worker must not hold a lock longer than its lease,
#: so idle_in_transaction_session_timeout stays below the lease's 15 s.
_SESSION = {
    "lock_timeout": "2s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
}

#: Notice a dead peer in 5 + 2·2 s; give up unacknowledged data after 8 s (race 15).
_TCP = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8000,
    "connect_timeout": 3,
}


def connect_args(**session: str) -> dict[str, Any]:
    """The arguments of a connection; `session` overrides single settings, e.g. for migrations."""
    options = " ".join(f"-c {key}={value}" for key, value in {**_SESSION, **session}.items())
    return {**_TCP, "options": options, "application_name": "trellis"}
