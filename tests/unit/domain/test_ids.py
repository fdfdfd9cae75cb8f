"""Identifiers."""

from __future__ import annotations

import uuid

import pytest

from trellis.domain.ids import default_assistant_id, is_uuid, new_id


def test_new_id():
    ids = [uuid.UUID(new_id()) for _ in range(1000)]

    assert {i.version for i in ids} == {7}
    assert len(set(ids)) == 1000
    stamps = [i.int >> 80 for i in ids]
    assert stamps == sorted(stamps)


def test_default_assistant_id():
    """As observed on the official server for the graph "echo"."""
    assert default_assistant_id("echo") == "046b5dc7-2108-582c-9c6c-31d556d138f0"


@pytest.mark.parametrize("text", ["", "x", "1", None, 5, "046b5dc7-2108-582c-9c6c-31d556d138fz"])
def test_is_uuid__no(text):
    assert not is_uuid(text)
