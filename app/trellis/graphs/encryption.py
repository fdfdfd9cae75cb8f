"""Refuses encryption, which this version does not have: nobody may believe that plain rows are encrypted."""

from __future__ import annotations

from collections.abc import Mapping

from trellis.errors import ConfigError

_KEYS = ("LANGGRAPH_AES_KEY", "LANGGRAPH_AES_JSON_KEYS")


def refuse(where: str, raw: object, *, environ: Mapping[str, str]) -> None:
    """
    Stop if encryption is asked for.

    :raises ConfigError: names the key or the variable.
    """
    asked = [name for name in _KEYS if environ.get(name)]
    if raw:
        asked.append(f'"encryption" in {where}')
    if asked:
        raise ConfigError(
            f"{asked[0]}: encryption is not supported by this version, and nothing would be encrypted. "
            "Remove it, and encrypt the disks and backups of Postgres instead."
        )
