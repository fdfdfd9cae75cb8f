"""Reads the keys of the encryption at rest from the environment."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from trellis.domain.encryption import NEEDED, Encryption
from trellis.errors import ConfigError

KEY = "LANGGRAPH_AES_KEY"
NAMES = "LANGGRAPH_AES_JSON_KEYS"
REQUIRED = "TRELLIS_AES_REQUIRED"
#: Where older keys are: our data names its key, so that both of the official variables mean the same.
OLDER = ("LANGGRAPH_AES_FALLBACK_KEYS", "LANGGRAPH_AES_LEGACY_KEY")

_SIZES = (16, 24, 32)
_TAKES = "16, 24 or 32 bytes of text, or base64: and so many bytes in base64"


def parse(where: str, raw: object, *, environ: Mapping[str, str]) -> Encryption:
    """
    The encryption that the environment asks for.

    :raises ConfigError: names the variable and what it takes, never a key.
    """
    path = _path(where, raw)
    key = environ.get(KEY)
    names = _names(environ.get(NAMES, ""))
    is_required = _flag(environ.get(REQUIRED, ""))
    older = tuple(_key(name, each) for name in OLDER for each in _listed(environ.get(name, "")))
    if key:
        keys = tuple(dict.fromkeys((_key(KEY, key), *older)))
        return Encryption(keys=keys, names=names, is_required=is_required, path=path)
    for name, is_set in ((NAMES, names), (OLDER[0], older), (REQUIRED, is_required)):
        if is_set:
            raise ConfigError(f"{name} needs {KEY}: without a key nothing is encrypted")
    return Encryption(path=path)


def _path(where: str, raw: object) -> str | None:
    if raw is None or raw == {}:
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("path"), str) or raw.keys() != {"path"}:
        raise ConfigError(
            f'{where}: "encryption" takes {{"path": "path/to/file.py:variable"}}, and nothing else'
        )
    path: str = raw["path"]
    return path


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _key(name: str, text: str) -> bytes:
    try:
        prefix, _, encoded = text.partition("base64:")
        key = base64.b64decode(encoded, validate=True) if not prefix and encoded else text.encode()
    except ValueError:
        key = b""
    # What was given must not be in a log.
    if len(key) not in _SIZES:
        raise ConfigError(f"{name} must be {_TAKES}")
    return key


def _names(text: str) -> frozenset[str]:
    names = frozenset(_listed(text))
    if needed := sorted(names & NEEDED):
        raise ConfigError(f"{NAMES}: the server needs to read '{needed[0]}'. Leave it out")
    return names


def _flag(text: str) -> bool:
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    raise ConfigError(f"{REQUIRED} must be true or false, not {text!r}")
