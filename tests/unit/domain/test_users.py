"""The user as handlers, graphs and rows have it."""

from __future__ import annotations

import pytest

from trellis.domain.users import User, as_json, shown_kwargs


def test_user() -> None:
    user = User({"identity": "a", "org": {"id": 1}, "display_name": None})

    assert (user.identity, user.display_name, user.is_authenticated) == ("a", "a", True)
    assert user.permissions == []
    assert user["org"] == user.org == user.get("org") == {"id": 1}
    assert "org" in user
    assert {**user} == user.to_dict()
    with pytest.raises(AttributeError):
        user.nothing  # noqa: B018  # reading it is what raises


def test_as_json__of_what_is_no_json() -> None:
    assert as_json(User({"identity": "a", "at": object}))["at"] == "<class 'object'>"


def test_shown_kwargs() -> None:
    user = as_json(User({"identity": "a", "token": "secret"}))
    kwargs = {"input": 1, "config": {"configurable": {"langgraph_auth_user": user, "x": 2}}}

    shown = shown_kwargs(kwargs)

    assert "secret" not in str(shown)
    assert shown["config"]["configurable"]["x"] == 2
    assert shown["config"]["configurable"]["langgraph_auth_user"]["identity"] == "a"
    assert "secret" in str(kwargs)
