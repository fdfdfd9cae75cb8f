"""The authenticated user, as handlers, graphs and rows have it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trellis.domain.storable import is_storable

#: What is said of a user to others who may see their runs. The rest may be secrets of theirs.
_PUBLIC = ("identity", "display_name", "is_authenticated", "permissions")


class User:
    """A mapping that is an object too: `user.org` and `user["org"]` are the same."""

    __slots__ = ("_fields", "_origin")

    def __init__(self, fields: Mapping[str, Any], *, origin: Any = None) -> None:
        """
        `origin` is the object that an authenticator returned: what it can do, the user can.

        :raises ValueError: the identity cannot be stored, so nothing could ever be theirs.
        """
        if not is_storable(fields["identity"]):
            raise ValueError("the identity holds a NUL or half of a character")
        given = {name: value for name, value in fields.items() if value is not None}
        self._fields = {
            "display_name": fields["identity"],
            "is_authenticated": True,
            "permissions": [],
            **given,
        }
        self._origin = origin

    @property
    def origin(self) -> Any:
        return self._origin

    @property
    def identity(self) -> str:
        return str(self._fields["identity"])

    @property
    def display_name(self) -> str:
        return str(self._fields["display_name"])

    @property
    def is_authenticated(self) -> bool:
        return bool(self._fields["is_authenticated"])

    @property
    def permissions(self) -> Sequence[str]:
        return list(self._fields["permissions"])

    def __getattr__(self, name: str) -> Any:
        # Not for our own slots: a copy that is being made asks before they are set.
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._fields:
            return self._fields[name]
        return getattr(self._origin, name)

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"User({self.identity!r})"

    def keys(self) -> list[str]:
        return list(self._fields)

    def get(self, key: str, default: Any = None) -> Any:
        return self._fields.get(key, default)

    def to_dict(self) -> dict[str, Any]:
        """Every field, as a dict of its own."""
        return dict(self._fields)


def as_json(user: User) -> dict[str, Any]:
    """Every field as JSON has it; what JSON cannot say becomes a text."""
    plain: dict[str, Any] = json.loads(json.dumps(user.to_dict(), default=str))
    return plain


def shown_kwargs(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's kwargs for whoever may see the run: of its user, no more than who it is."""
    kwargs = {key: value for key, value in kwargs.items() if key != "encryption_context"}
    config = kwargs.get("config") or {}
    configurable = config.get("configurable") or {}
    user = configurable.get("langgraph_auth_user")
    if not user:
        return kwargs
    public = {name: user[name] for name in _PUBLIC if name in user}
    configurable = {**configurable, "langgraph_auth_user": public}
    return {**kwargs, "config": {**config, "configurable": configurable}}
