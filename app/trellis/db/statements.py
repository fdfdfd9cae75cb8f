"""Named statements: db/sql/*.sql, each `-- name: x` followed by what it guarantees and the SQL."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@cache
def _load(topic: str) -> dict[str, str]:
    text = (files("trellis.db") / "sql" / f"{topic}.sql").read_text("utf8")
    parts = _NAME.split(text)[1:]
    return {
        name: _COMMENT.sub("", sql).strip()
        for name, sql in zip(parts[::2], parts[1::2], strict=True)
    }


def sql(topic: str, name: str) -> str:
    """The statement `name` of db/sql/`topic`.sql, with %(parameter)s placeholders."""
    return _load(topic)[name]
