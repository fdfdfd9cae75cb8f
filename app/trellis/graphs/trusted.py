"""Imports the classes that `checkpointer.serde` of langgraph.json trusts."""

from __future__ import annotations

from trellis.errors import ConfigError, GraphLoadError
from trellis.graphs import loader
from trellis.graphs.manifest import GraphSpec, Manifest


def load(manifest: Manifest) -> frozenset[type]:
    """
    The classes that checkpoints may hold, whatever the graphs' schemas say. Imports the user's code.

    :raises ConfigError: one cannot be imported, or is no class.
    """
    return frozenset(_load(manifest, *each) for each in manifest.checkpointer.allowed)


def _load(manifest: Manifest, module: str, name: str) -> type:
    at = f'{manifest.path}: "checkpointer.serde": {module}.{name}'
    # By its file, because a loose one has another name here, which is also what its checkpoints say.
    source = loader.module_file(manifest, module) or module
    spec = GraphSpec(graph_id="checkpointer.serde", target=f"{source}:{name}")
    try:
        found = loader.import_target(manifest, spec).value
    except GraphLoadError as error:
        raise ConfigError(f"{at}: {error.reason}") from error
    if not isinstance(found, type):
        raise ConfigError(f"{at} is no class")
    return found
