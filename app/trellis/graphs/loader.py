"""Imports one graph from its path, and explains failures. User code is imported here, nowhere else.

A file is imported under the name its own project uses for it (`app/graph.py` is `app.graph`), so
that it and its tests mean the same module. A file that lies loose, or whose name belongs to another
package, becomes `trellis_graphs.<graph id>`. The user's folders stand at the end of `sys.path`:
a user's `redis.py` is never found before the library, neither by us nor by the user's libraries.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import keyword
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import NamespaceLoader
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from trellis.domain.failures import storable
from trellis.errors import ConfigError, GraphLoadError
from trellis.graphs.manifest import GraphSpec, Manifest, apply_env

T = TypeVar("T")

LOOSE = "trellis_graphs"

#: One loose file may hold several graphs: the second waits for the first instead of seeing half a module.
_loose_lock = threading.RLock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What a target names, and where it stands."""

    value: object
    file: Path
    line: int | None  #: None when the variable is not bound at the top level of the file


def prepare(manifest: Manifest) -> None:
    """Make the user's modules importable and set the manifest's variables, behind what is there."""
    apply_env(manifest)
    _append_to_path(_folders(manifest))


def import_instance(manifest: Manifest, key: str, target: str, kind: type[T]) -> tuple[T, str]:
    """
    What a key of langgraph.json names, which is to be of a class of `langgraph_sdk`; and where, for messages.

    :raises ConfigError: it cannot be imported, or is something else.
    """
    at = f'{manifest.path}: "{key}"'
    spec = GraphSpec(graph_id=key, target=target)
    try:
        found = import_target(manifest, spec).value
    except GraphLoadError as error:
        raise ConfigError(f"{at}: {error.reason}") from error
    if not isinstance(found, kind):
        raise ConfigError(f"{at}: {spec.variable} is no langgraph_sdk.{kind.__name__}")
    return found, f"{at}: {spec.variable}"


def import_target(manifest: Manifest, spec: GraphSpec) -> Imported:
    """
    Import the object that a graph's entry names.

    :raises GraphLoadError: says which exception, and in which line of the user's code.
    """
    prepare(manifest)
    try:
        module = _import_file(manifest, spec) if spec.is_file else _import_module(manifest, spec)
        file = Path(getattr(module, "__file__", None) or spec.source)
        value = _variable(manifest, module, file=file, name=spec.variable)
    except GraphLoadError:
        raise
    # This is the edge to the user's code, which may raise anything, or even call sys.exit().
    except (Exception, SystemExit) as error:
        raise GraphLoadError(spec.graph_id, explain(manifest, error)) from error
    return Imported(value=value, file=file, line=_bindings(file).get(spec.variable))


def module_file(manifest: Manifest, name: str) -> Path | None:
    """The file of a module or package of the project's own. None: no file of the project has this name."""
    stem = name.replace(".", "/")
    files = [
        base / file for base in _bases(manifest) for file in (f"{stem}.py", f"{stem}/__init__.py")
    ]
    return next((file for file in files if file.is_file()), None)


def explain(manifest: Manifest, error: BaseException, *, at: str | None = None) -> str:
    """Tell what was raised, and where in the user's code; `at` is the place if none of it was running."""
    return storable(_explain(manifest, error, at))


def _explain(manifest: Manifest, error: BaseException, at: str | None) -> str:
    if isinstance(error, _Explained):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        place = f"{shorten(manifest, Path(error.filename))}:{error.lineno}"
        return f"{type(error).__name__}: {error.msg} ({place})"
    what = "".join(traceback.format_exception_only(error)).strip()
    place = _innermost(manifest, error) or at or ""
    clash = _clash_behind(manifest, error)
    return f"{what}{f' ({place})' if place else ''}{f': {clash}' if clash else ''}"


def shorten(manifest: Manifest, file: Path) -> str:
    """Name a file as its author does: relative to langgraph.json if it lies below."""
    return str(file.relative_to(manifest.root) if file.is_relative_to(manifest.root) else file)


class _Explained(Exception):
    """The message is the whole reason."""


def _folders(manifest: Manifest) -> list[Path]:
    """The folders that imports may start from: dependencies, the project, and the `src` of each."""
    named = [_absolute(manifest.root / each) for each in manifest.dependencies]
    tops = [folder for folder in named if folder.is_dir()] + [manifest.root]
    sources = [top / "src" for top in tops if (top / "src").is_dir()]
    return list(dict.fromkeys([*tops, *sources]))


def _bases(manifest: Manifest) -> list[Path]:
    """The folders that dotted names start from; one that is itself a package is part of a name."""
    return [
        folder
        for folder in _folders(manifest)
        if folder == manifest.root or not (folder / "__init__.py").exists()
    ]


def _append_to_path(folders: list[Path]) -> None:
    new = [str(each) for each in folders if str(each) not in sys.path]
    if new:
        sys.path.extend(new)
        importlib.invalidate_caches()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _import_module(manifest: Manifest, spec: GraphSpec) -> ModuleType:
    top = spec.source.partition(".")[0]
    for base in _bases(manifest):
        _forget_empty_namespace(top, base)
    return importlib.import_module(spec.source)


def _import_file(manifest: Manifest, spec: GraphSpec) -> ModuleType:
    file = _absolute(manifest.root / spec.source)
    if not file.is_file():
        raise _Explained(f"there is no file {shorten(manifest, file)} in {manifest.root}")
    base = _base_of(manifest, file)
    name = _dotted_name(base, file)
    if (file.parent / "__init__.py").exists():
        _append_to_path([_package_parent(file)])
    if name and _leads_to(name, base=base, file=file):
        return importlib.import_module(name)
    return _import_loose(f"{LOOSE}.{_owner(manifest, file)}", file)


def _base_of(manifest: Manifest, file: Path) -> Path:
    around = [base for base in _bases(manifest) if file.is_relative_to(base)]
    return max(around, key=lambda base: len(base.parts), default=_package_parent(file))


def _package_parent(file: Path) -> Path:
    folder = file.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


def _dotted_name(base: Path, file: Path) -> str | None:
    """The name the project gives the file. None: it lies loose, or its path cannot be a name."""
    parts = file.relative_to(base).with_suffix("").parts
    parts, loose = (parts[:-1], 0) if parts[-1] == "__init__" else (parts, 1)
    importable = all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)
    return ".".join(parts) if importable and len(parts) > loose else None


def _leads_to(name: str, *, base: Path, file: Path) -> bool:
    """Whether importing the name gives this file, and not another package of the same name."""
    top = name.partition(".")[0]
    _forget_empty_namespace(top, base)
    package = importlib.util.find_spec(top)
    if package is None or not any(
        _is_same(Path(folder), base / top) for folder in package.submodule_search_locations or ()
    ):
        return False
    # Importing the parents is part of finding; by now they are the user's own.
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None and _is_same(Path(found.origin), file)


def _forget_empty_namespace(top: str, base: Path) -> None:
    # Once imported, a folder without __init__.py would hide the user's real package for good.
    module = sys.modules.get(top)
    namespace = module is not None and isinstance(
        getattr(getattr(module, "__spec__", None), "loader", None), NamespaceLoader
    )
    if namespace and (base / top / "__init__.py").exists():
        del sys.modules[top]


def _owner(manifest: Manifest, file: Path) -> str:
    """
    The first graph of a file names its module: the same in every process, whatever loads first.

    A file without a graph is named after its path.
    """
    for spec in manifest.graphs.values():
        if spec.is_file and _absolute(manifest.root / spec.source) == file:
            return _as_name(spec.graph_id)
    return f"file_{_as_name(str(file))}"


def _as_name(text: str) -> str:
    return re.sub(r"\W", lambda match: f"_{ord(match[0]):x}_", text)


def _import_loose(name: str, file: Path) -> ModuleType:
    with _loose_lock:
        loaded = sys.modules.get(name)
        if loaded is not None and loaded.__file__ == str(file):
            return loaded
        _ensure_loose_package()
        # With a search location it is a package, and `from .tools import …` finds its neighbours.
        spec = importlib.util.spec_from_file_location(
            name, file, submodule_search_locations=[str(file.parent)]
        )
        if spec is None or spec.loader is None:
            raise _Explained(f"{file} is not a Python file")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def _ensure_loose_package() -> None:
    package = ModuleType(LOOSE, "Graphs that belong to no package.")
    package.__path__ = []
    sys.modules.setdefault(LOOSE, package)


def _variable(manifest: Manifest, module: ModuleType, *, file: Path, name: str) -> object:
    try:
        return getattr(module, name)
    except AttributeError:
        has = ", ".join(_defined(module, file)) or "nothing"
        reason = f"{shorten(manifest, file)} has no '{name}'; it has: {has}"
        clash = _clash(manifest, module.__name__.partition(".")[0])
        raise _Explained(f"{reason}; {clash}" if clash else reason) from None


def _defined(module: ModuleType, file: Path) -> list[str]:
    names = _bindings(file) or vars(module)
    return [name for name in names if not name.startswith("_")]


def _bindings(file: Path) -> dict[str, int]:
    """The names that a file itself binds at its top level, with their lines."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return {}
    return {name: node.lineno for node in body for name in _bound_by(node)}


def _bound_by(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Assign():
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def _innermost(manifest: Manifest, error: BaseException) -> str | None:
    """The place where the user's code was last in control."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if _is_users(manifest, Path(frame.filename))
    ]
    if not frames:
        return None
    return f"{shorten(manifest, Path(frames[-1].filename))}:{frames[-1].lineno}"


def _is_users(manifest: Manifest, file: Path) -> bool:
    if file.is_relative_to(Path(__file__).parent):
        return False
    graphs = [_package_parent(_absolute(manifest.root / spec.source)) for spec in _files(manifest)]
    return any(
        file.is_relative_to(folder) and "site-packages" not in file.relative_to(folder).parts
        for folder in [*_folders(manifest), *graphs]
    )


def _files(manifest: Manifest) -> list[GraphSpec]:
    return [spec for spec in manifest.graphs.values() if spec.is_file]


def _clash_behind(manifest: Manifest, error: BaseException) -> str | None:
    """Whether an import went wrong because another package has the name of a module of the user's."""
    if isinstance(error, ImportError) and error.name:
        return _clash(manifest, error.name.partition(".")[0])
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return _clash(manifest, error.obj.__name__.partition(".")[0])
    return None


def _clash(manifest: Manifest, top: str) -> str | None:
    found = sys.modules.get(top)
    if found is None or top == LOOSE:
        return None
    theirs = [getattr(found, "__file__", None) or "built in"]
    if theirs == ["built in"]:
        theirs = list(getattr(found, "__path__", theirs))
    folders = _folders(manifest)
    candidates = [
        folder / name for folder in folders for name in (f"{top}/__init__.py", f"{top}.py", top)
    ]
    mine = [each for each in candidates if each.exists()]
    if not mine or any(_is_same(Path(one), other) for one in theirs for other in mine):
        return None
    return f"'{top}' is {theirs[0]}, not your {mine[0]}: rename yours"


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
