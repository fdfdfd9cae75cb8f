"""A store in a file that processes share."""

import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore


class FileStore(BaseStore):
    """Reads the file before each batch, and writes it after."""

    def __init__(self, path: str) -> None:
        self.path = path

    def batch(self, ops: Iterable[Any]) -> list[Any]:
        with open(self.path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            items = InMemoryStore()
            for namespace, key, value in json.loads(file.read() or "[]"):
                items.put(tuple(namespace), key, value)
            results = items.batch(ops)
            found = items.search((), limit=1000)
            file.truncate(0)
            json.dump([[each.namespace, each.key, each.value] for each in found], file)
        return results

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        return self.batch(ops)


@asynccontextmanager
async def opened() -> AsyncIterator[FileStore]:
    print("the store opens", flush=True)
    yield FileStore(os.environ["MEMORY_FILE"])
    print("the store closes", flush=True)
