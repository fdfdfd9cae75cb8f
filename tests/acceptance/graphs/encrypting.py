"""An operator's own encryption: a key per team, which the context names, and everything but `owner` encrypted."""

import asyncio
import base64
import hashlib
import json

from cryptography.fernet import Fernet
from langgraph_sdk import Encryption

encryption = Encryption()

PREFIX = "mine:"
TEAMS = ("red", "blue")


def key(ctx):
    if (team := ctx.metadata.get("team")) not in TEAMS:
        raise ValueError(f"unknown team {team}")
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(team.encode()).digest()))


@encryption.encrypt.blob
async def encrypt_blob(ctx, blob):
    await asyncio.sleep(0)
    return key(ctx).encrypt(blob)


@encryption.decrypt.blob
async def decrypt_blob(ctx, blob):
    return key(ctx).decrypt(blob)


@encryption.encrypt.json
async def encrypt_json(ctx, data):
    def made(name, value):
        if name == "owner" or value is None:
            return value
        return PREFIX + key(ctx).encrypt(json.dumps(value).encode()).decode()

    return {name: made(name, value) for name, value in data.items()}


@encryption.decrypt.json
async def decrypt_json(ctx, data):
    def read(value):
        if not (isinstance(value, str) and value.startswith(PREFIX)):
            return value
        return json.loads(key(ctx).decrypt(value.removeprefix(PREFIX)))

    return {name: read(value) for name, value in data.items()}


@encryption.context
async def context(user, ctx):
    return {**ctx.metadata, "team": user["identity"]}
