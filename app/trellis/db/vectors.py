"""What store items and queries mean, as vectors: which texts are embedded, and whether the numbers make sense."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import orjson
from langgraph.store.base import Op, PutOp, SearchOp, get_text_at_path

from trellis.db.texts import as_json
from trellis.domain.store import Namespace
from trellis.errors import EmbeddingFailed, Invalid, TrellisError

#: Texts of one item: each becomes a row, and a part of a request to somebody who charges for it.
_MAX_TEXTS: Final = 1000

Place = tuple[Namespace, str]
Vector = Sequence[float]
T = TypeVar("T")


class Embeddings(Protocol):
    """What LangChain's embeddings, and ours, can do. Both may block, and raise anything."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]: ...

    def embed_query(self, text: str) -> list[float]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """Vectors of what a batch puts and asks for, as Postgres reads arrays."""

    items: Mapping[Place, Sequence[str]] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    dims: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """The semantic index of a store."""

    embeddings: Embeddings
    dims: int
    fields: Sequence[str]

    def meaning(self, ops: Sequence[Op]) -> Meaning:
        """
        Embed what a batch puts and asks for. Calls the user's code, so that no transaction may be open.

        :raises EmbeddingFailed: the user's code raised, or returned what are no vectors of the index.
        :raises Invalid: an item has more texts than can be embedded.
        """
        texts = self._texts(ops)
        queries = list(
            dict.fromkeys(op.query for op in ops if isinstance(op, SearchOp) and op.query)
        )
        documents = list(dict.fromkeys(text for each in texts.values() for text in each))
        vectors = dict(zip(documents, self._embed(documents), strict=True))
        return Meaning(
            items={place: [vectors[text] for text in each] for place, each in texts.items()},
            queries={query: self._embed_query(query) for query in queries},
            dims=self.dims,
        )

    def _texts(self, ops: Iterable[Op]) -> dict[Place, list[str]]:
        """What is embedded of each item. Of several puts of a key the last counts."""
        last = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        found = {place: self._texts_of(op) for place, op in last.items()}
        return {place: texts for place, texts in found.items() if texts}

    def _texts_of(self, op: PutOp) -> list[str]:
        if op.value is None or op.index is False:
            return []
        fields = self.fields if op.index is None else op.index
        # As it will be stored: a date is a text there, which json.dumps would refuse.
        value = orjson.loads(as_json(dict(op.value)))
        texts = [text for each in fields for text in get_text_at_path(value, each)]
        if len(texts) > _MAX_TEXTS:
            raise Invalid(f"{len(texts)} texts of an item would be embedded, {_MAX_TEXTS} at most.")
        return texts

    def _embed(self, texts: list[str]) -> list[str]:
        if not texts:
            return []
        vectors = _called(lambda: list(self.embeddings.embed_documents(texts)))
        if len(vectors) != len(texts):
            raise EmbeddingFailed(f"returned {len(vectors)} vectors for {len(texts)} texts")
        return [self._literal(vector) for vector in vectors]

    def _embed_query(self, query: str) -> str:
        return self._literal(_called(lambda: self.embeddings.embed_query(query)))

    def _literal(self, vector: Vector) -> str:
        """A vector of length 1 as text: of such, the product is the cosine. One of zeros is like nothing."""
        numbers = _called(lambda: [float(number) for number in vector])
        if len(numbers) != self.dims:
            raise EmbeddingFailed(f"returned a vector of {len(numbers)} numbers, not {self.dims}")
        length = math.hypot(*numbers)
        if not math.isfinite(length):
            raise EmbeddingFailed("returned a vector with a number that is not finite")
        # Rounded here, because Postgres refuses a number that is too small for a real.
        unit = array("f", (number / (length or 1.0) for number in numbers))
        return "{" + ",".join(f"{number:.9g}" for number in unit) + "}"


def _called(call: Callable[[], T]) -> T:
    """The edge to the user's code."""
    try:
        return call()
    except TrellisError:
        raise
    except (Exception, SystemExit) as error:
        raise EmbeddingFailed(f"raised {type(error).__name__}") from error
