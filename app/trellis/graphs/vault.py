"""Makes a process's vault: the keys of the environment, and the handlers that `encryption.path` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trellis.db.vault import Vault
from trellis.errors import ConfigError
from trellis.graphs import loader
from trellis.graphs.manifest import Manifest

if TYPE_CHECKING:
    from langgraph_sdk import Encryption


def build(manifest: Manifest) -> Vault:
    """
    Make the vault; the user's handlers are imported here.

    :raises ConfigError: they cannot be imported, or what they encrypt nobody could decrypt.
    """
    if manifest.encryption.path is None:
        return Vault(manifest.encryption)
    # Not at the top: nobody who has no handlers waits for the import.
    from trellis.db.handlers import Handlers

    found = _load(manifest, manifest.encryption.path)
    return Vault(manifest.encryption, Handlers(found))


def _load(manifest: Manifest, path: str) -> Encryption:
    from langgraph_sdk import Encryption

    found, _ = loader.import_instance(manifest, "encryption.path", path, Encryption)
    at = f'{manifest.path}: "encryption.path"'
    _check_pairs(at, found)
    return found


def _check_pairs(at: str, found: Encryption) -> None:
    pairs = {
        "blob": (found._blob_encryptor, found._blob_decryptor),
        "json": (found._json_encryptor, found._json_decryptor),
    }
    for kind, (encrypts, decrypts) in pairs.items():
        if encrypts is not None and decrypts is None:
            raise ConfigError(
                f"{at}: has encrypt.{kind} without decrypt.{kind}: nobody could read it"
            )
    if not any(decrypts for _, decrypts in pairs.values()):
        raise ConfigError(f"{at}: has no handlers: nothing would be encrypted")
