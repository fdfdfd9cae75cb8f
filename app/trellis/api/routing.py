"""How a path finds its route: `/threads/search` is no thread of that name, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from werkzeug.routing import BaseConverter, Rule

#: The last words of routes where another route has an id. A test compares them with the routes.
WORDS = (
    "batch",
    "bulk",
    "cancel",
    "checkpoint",
    "count",
    "crons",
    "prune",
    "search",
    "stream",
    "wait",
)


class NoWord(BaseConverter):
    """Anything but the words."""

    regex = f"(?!(?:{'|'.join(WORDS)})$)[^/]+"


class IdRule(Rule):
    """A rule whose last part, if it is an id, leaves the words to the routes that have them."""

    def get_converter(
        self,
        variable_name: str,
        converter_name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> BaseConverter:
        if variable_name.endswith("_id") and self.rule.endswith(f"<{variable_name}>"):
            return NoWord(self.map)
        return super().get_converter(variable_name, converter_name, args, kwargs)

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        """Werkzeug would compile Python that builds URLs: most of the time that making the application takes."""
        return _not_built


def _not_built(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError("Routes find views here; none builds a URL.")
