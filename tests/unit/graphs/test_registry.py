from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from trellis.errors import GraphLoadError, NotFound
from trellis.graphs.manifest import Manifest
from trellis.graphs.registry import Kind, Registry
from unit.graphs.projects import GRAPH, compiled

Project = Callable[..., Manifest]
RegistryOf = Callable[..., Registry]


def opened(registry: Registry, graph_id: str = "agent", **told: Any) -> Any:
    """Open a graph, run it once, and return (its name, what it answers)."""

    async def use() -> tuple[str, Any]:
        told.setdefault("access_context", "threads.create_run")
        async with registry.open(graph_id, **told) as graph:
            return graph.name, await graph.ainvoke({"n": 1})

    return asyncio.run(use())


def users_module() -> Any:
    return sys.modules["trellis_graphs.agent"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", Kind.COMPILED),
        ("graph = builder", Kind.BUILDER),
        ("def graph(): return builder.compile()", Kind.FACTORY),
        ("def graph(): return builder", Kind.FACTORY),
        ("async def graph(): return builder.compile()", Kind.ASYNC_FACTORY),
        ("async def make(): return builder\ndef graph(): return make()", Kind.FACTORY),
        ("import functools\ngraph = functools.partial(lambda x: builder, 1)", Kind.FACTORY),
        (
            "class Make:\n    async def __call__(self, config): return builder\ngraph = Make()",
            Kind.ASYNC_FACTORY,
        ),
        (
            "import contextlib\n@contextlib.asynccontextmanager\nasync def graph(): yield builder",
            Kind.CONTEXT_MANAGER,
        ),
        (
            "import contextlib\n@contextlib.contextmanager\ndef graph(): yield builder.compile()",
            Kind.CONTEXT_MANAGER,
        ),
        (
            """
            from contextlib import AbstractAsyncContextManager
            class graph(AbstractAsyncContextManager):
                def __init__(self, config): self.config = config
                async def __aenter__(self): return builder.compile()
                async def __aexit__(self, *raised): pass
            """,
            Kind.CONTEXT_MANAGER,
        ),
    ],
)
def test_open(registry_of: RegistryOf, text: str, kind: Kind) -> None:
    registry = registry_of(text)

    assert opened(registry) == ("agent", {"n": 2})
    assert registry.load("agent").kind is kind


def test_open__an_entrypoint(registry_of: RegistryOf) -> None:
    registry = registry_of(
        """
        from langgraph.func import entrypoint

        @entrypoint()
        async def graph(given: dict) -> dict:
            return {"got": given}
        """
    )

    assert opened(registry) == ("agent", {"got": {"n": 1}})
    assert registry.load("agent").kind is Kind.ENTRYPOINT


def test_open__keeps_a_name_of_its_own(registry_of: RegistryOf) -> None:
    assert opened(registry_of("graph = builder.compile(name='Mine')"))[0] == "Mine"


def test_open__leaves_the_users_graph_alone(registry_of: RegistryOf) -> None:
    registry = registry_of(
        """
        from langgraph.checkpoint.memory import InMemorySaver
        saver = InMemorySaver()
        graph = builder.compile(checkpointer=saver)
        """
    )

    lent = compiled(registry, "agent")

    assert lent.checkpointer is users_module().saver
    assert users_module().graph.name == "LangGraph"


def test_open__of_a_pydantic_state_keeps_its_mapper(registry_of: RegistryOf) -> None:
    registry = registry_of(
        """
        from pydantic import BaseModel
        class Typed(BaseModel):
            n: int
        graph = StateGraph(Typed).add_node("a", lambda s: {}).add_edge(START, "a").compile()
        """
    )

    assert compiled(registry, "agent")._output_mapper is not None


def test_load__once_for_many_threads(tmp_path: Any, registry_of: RegistryOf) -> None:
    log = tmp_path / "imports"
    registry = registry_of(f"with open({str(log)!r}, 'a') as f: f.write('x')")

    with ThreadPoolExecutor(8) as pool:
        graphs = {id(graph) for graph in pool.map(partial(compiled, registry), ["agent"] * 8)}

    assert len(graphs) == 1
    assert log.read_text() == "x"


def test_load__two_graphs_of_one_file_at_once(tmp_path: Any, project: Project) -> None:
    log = tmp_path / "imports"
    text = f"with open({str(log)!r}, 'a') as f: f.write('x')\n{GRAPH}"
    registry = Registry(project({"agent.py": text}, dict.fromkeys("abcdefgh", "./agent.py:graph")))

    with ThreadPoolExecutor(8) as pool:
        names = [graph.name for graph in pool.map(partial(compiled, registry), registry.graph_ids)]

    assert names == list("abcdefgh")
    assert log.read_text() == "x"


@pytest.mark.parametrize(
    "signature",
    [
        "config, runtime",
        "runtime, config",
        "*, runtime, config",
        "config, runtime, /",
        "runtime: 'ServerRuntime', config: 'RunnableConfig'",
        "c: RunnableConfig, r: ServerRuntime",
        "c: RunnableConfig | None, r: ServerRuntime[dict], spare=3, *args, **kwargs",
        "c: 'OnlyForTypeCheckers.RunnableConfig', r: 'ServerRuntime[OnlyForTypeCheckers]'",
    ],
)
@pytest.mark.parametrize("prefix", ["", "async "])
def test_open__tells_a_factory(registry_of: RegistryOf, signature: str, prefix: str) -> None:
    registry = registry_of(
        f"""
        from langchain_core.runnables import RunnableConfig
        from langgraph_sdk.runtime import ServerRuntime

        told = []

        {prefix}def graph({signature}):
            told.append(list(locals().values()))
            return builder
        """
    )
    store, user = object(), object()

    opened(registry, config={"configurable": {"a": 1}}, store=store, user=user, context={"b": 2})

    (told,) = users_module().told
    (runtime,) = [each for each in told if hasattr(each, "access_context")]
    assert {"configurable": {"a": 1}} in told
    assert runtime.access_context == "threads.create_run"
    assert (runtime.store, runtime.user) == (store, user)
    assert runtime.execution_runtime.context == {"b": 2}


@pytest.mark.parametrize("signature", ["config", "c", "c: dict", "c: dict[str, object]"])
def test_open__tells_the_config_to_an_only_parameter(
    registry_of: RegistryOf, signature: str
) -> None:
    registry = registry_of(
        f"def graph({signature}): return builder.compile(name=c_of(**locals()))\n"
        "def c_of(**known): return list(known.values())[0]['configurable']['name']"
    )

    assert opened(registry, config={"configurable": {"name": "told"}})[0] == "told"


def test_open__the_config_is_a_copy_with_a_configurable(registry_of: RegistryOf) -> None:
    registry = registry_of(
        "def graph(config):\n    config['configurable']['own'] = 1\n    return builder"
    )
    config: dict[str, Any] = {"configurable": {}, "tags": ["t"]}

    opened(registry, config=config)
    opened(registry, config=None)

    assert config == {"configurable": {}, "tags": ["t"]}


@pytest.mark.parametrize("context", ["threads.update", "threads.read", "assistants.read"])
def test_open__not_to_run_it(registry_of: RegistryOf, context: str) -> None:
    registry = registry_of(
        "told = []\ndef graph(runtime):\n    told.append(runtime)\n    return builder"
    )

    opened(registry, access_context=context, context={"a": 1})

    (runtime,) = users_module().told
    assert runtime.access_context == context
    assert runtime.execution_runtime is None


@pytest.mark.parametrize("base", ["@dataclass\nclass Ctx:", "class Ctx(BaseModel):"])
def test_open__the_context_has_its_declared_type(registry_of: RegistryOf, base: str) -> None:
    registry = registry_of(
        f"""
from dataclasses import dataclass
from pydantic import BaseModel
from langgraph_sdk.runtime import ServerRuntime

{base}
    name: str = "nobody"

async def graph(runtime: ServerRuntime[Ctx]):
    return builder.compile(name=runtime.execution_runtime.context.name)
"""
    )

    assert opened(registry, context={"name": "ada"})[0] == "ada"


def test_open__a_factory_is_called_for_each_use(registry_of: RegistryOf) -> None:
    registry = registry_of("calls = []\ndef graph():\n    calls.append(1)\n    return builder")

    opened(registry)
    opened(registry)

    assert users_module().calls == [1, 1]


def test_open__a_blocking_factory_blocks_nobody(registry_of: RegistryOf) -> None:
    registry = registry_of(
        """
        import threading
        entered, gate = threading.Event(), threading.Event()

        def graph():
            entered.set()
            assert gate.wait(20), "the event loop was blocked"
            return builder
        """
    )
    registry.load_all()

    async def use() -> None:
        async with registry.open("agent", access_context="threads.read"):
            pass

    async def both() -> None:
        opening = asyncio.create_task(use())
        while not users_module().entered.is_set():
            await asyncio.sleep(0)
        users_module().gate.set()
        await opening

    asyncio.run(asyncio.wait_for(both(), 30))


MANAGERS = {
    "async": """
        import contextlib
        log = []

        @contextlib.asynccontextmanager
        async def graph(config):
            log.append("in")
            try:
                yield builder
            except BaseException as error:
                log.append(type(error).__name__)
                {on_error}
            finally:
                log.append("out")
    """,
}
MANAGERS["sync"] = MANAGERS["async"].replace("async def", "def").replace("async", "")


@pytest.mark.parametrize("kind", MANAGERS)
def test_open__a_context_manager_is_left(registry_of: RegistryOf, kind: str) -> None:
    registry = registry_of(MANAGERS[kind].format(on_error="raise"))

    opened(registry)

    assert users_module().log == ["in", "out"]


@pytest.mark.parametrize("kind", MANAGERS)
@pytest.mark.parametrize("on_error", ["raise", "pass", "raise KeyError('another')"])
@pytest.mark.parametrize(
    "failure", [ValueError("of the run"), asyncio.CancelledError("of the run")]
)
def test_open__a_failed_use_stays_failed(
    registry_of: RegistryOf, kind: str, on_error: str, failure: BaseException
) -> None:
    registry = registry_of(MANAGERS[kind].format(on_error=on_error))

    async def use() -> None:
        async with registry.open("agent", access_context="threads.create_run"):
            raise failure

    with pytest.raises(type(failure), match="of the run"):
        asyncio.run(use())

    assert users_module().log == ["in", type(failure).__name__, "out"]


def test_open__a_context_manager_is_left_by_the_task_that_entered_it(
    registry_of: RegistryOf,
) -> None:
    registry = registry_of(
        """
        import asyncio, contextlib
        tasks = []

        @contextlib.asynccontextmanager
        async def graph():
            async with asyncio.timeout(60):
                tasks.append(asyncio.current_task())
                yield builder
                tasks.append(asyncio.current_task())
        """
    )

    opened(registry)

    first, second = users_module().tasks
    assert first is second


def reason(registry: Registry, **told: Any) -> str:
    with pytest.raises(GraphLoadError) as raised:
        opened(registry, **told)
    assert raised.value.graph_id == "agent"
    return raised.value.reason


LINE = len(GRAPH.splitlines())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("graph = 3", f"TypeError: it is of type int, neither a graph nor a function that returns one (agent.py:{LINE + 1})"),
        ("graph = State", "it is the class State, neither a graph"),
        ("from langchain_core.runnables import RunnableLambda\ngraph = RunnableLambda(len)", "it is of type RunnableLambda, neither"),
        ("async def graph(): yield builder", "it is a generator; decorate it with @contextlib.asynccontextmanager"),
        ("graph = StateGraph(State)", "ValueError: Graph must have an entrypoint"),
        ("def graph(): pass", f"the factory returned NoneType, which is no graph (agent.py:{LINE + 1})"),
        ("async def graph(): return 3", "the factory returned int, which is no graph"),
        ("import contextlib\n@contextlib.asynccontextmanager\nasync def graph(): yield 3", "the factory returned int"),
        ("def graph(config, database): return builder", "the factory takes database; it may take config: RunnableConfig and runtime: ServerRuntime"),
        ("def graph(model: str): return builder", "the factory takes model; it may"),
        ("def graph():\n    part()\ndef part():\n    return {}['key']", f"KeyError: 'key' (agent.py:{LINE + 4})"),
        ("async def graph(config): return config['configurable']['nope']", f"KeyError: 'nope' (agent.py:{LINE + 1})"),
        ("def graph(): raise StopIteration", "RuntimeError: the factory raised StopIteration"),
        ("import sys\ndef graph(): sys.exit('no key')", f"SystemExit: no key (agent.py:{LINE + 2})"),
        ("import contextlib\n@contextlib.asynccontextmanager\nasync def graph():\n    yield builder\n    raise OSError('gone')", f"OSError: gone (agent.py:{LINE + 5})"),
        ("def graph(runtime): return runtime.ensure_user()", "PermissionError: No authenticated user"),
    ],
)  # fmt: skip
def test_open__fails(registry_of: RegistryOf, text: str, says: str) -> None:
    assert says in reason(registry_of(text))


def test_open__keeps_the_cause(registry_of: RegistryOf) -> None:
    registry = registry_of("1 / 0")

    with pytest.raises(GraphLoadError) as raised:
        opened(registry)

    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_load__a_failure_is_remembered(tmp_path: Any, registry_of: RegistryOf) -> None:
    log = tmp_path / "imports"
    registry = registry_of(f"with open({str(log)!r}, 'a') as f: f.write('x')\n1 / 0")

    reasons = {reason(registry), reason(registry), *(e.reason for e in registry.load_all())}

    assert len(reasons) == 1
    assert log.read_text() == "x"


def test_load__a_failure_is_raised_anew(registry_of: RegistryOf) -> None:
    registry = registry_of("1 / 0")

    (first,), (second,) = registry.load_all(), registry.load_all()

    assert first is not second


def test_load_all__serves_the_others(project: Project) -> None:
    files = {"good.py": GRAPH, "bad.py": "import nope_nope", "worse.py": "graph = 1"}
    registry = Registry(project(files, {name[:-3]: f"./{name}:graph" for name in files}))

    errors = registry.load_all()

    assert registry.graph_ids == ["good", "bad", "worse"]
    assert [error.graph_id for error in errors] == ["bad", "worse"]
    assert opened(registry, "good") == ("good", {"n": 2})


def test_open__an_unknown_graph(registry_of: RegistryOf) -> None:
    with pytest.raises(NotFound) as raised:
        opened(registry_of(""), "nope")

    assert raised.value.detail == "Graph 'nope' not found. Expected one of: ['agent']"


def test_registry__starts_without_langgraph(project: Project, python: Callable[..., str]) -> None:
    project({"agent.py": GRAPH}, {"agent": "./agent.py:graph"})

    printed = python(
        """
        import sys
        from trellis.graphs import check, loader, manifest, registry, schemas
        registry.Registry(manifest.load())
        print([name for name in sys.modules if name.partition(".")[0] in ("langgraph", "langchain_core", "pydantic", "langgraph_sdk")])
        """
    )

    assert printed == "[]"
