"""Encryption at rest: what nobody finds in Postgres, and everything that goes on as without it."""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient
from langgraph_sdk.errors import UnprocessableEntityError

from acceptance.course import Course
from acceptance.system import ANSWER_SECONDS, GRAPHS, READY_SECONDS, System, running, wait_for
from integration.receiver import receiving

SECRET = "rattlesnake"
KEY, OLD_KEY = "a key of thirty-two bytes, as it", "a key of before."
ENCRYPTED = {"LANGGRAPH_AES_KEY": KEY, "LANGGRAPH_AES_JSON_KEYS": "pin"}

NewSystem = Callable[..., System]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A project that may tell this machine how its runs ended."""
    folder = tmp_path_factory.mktemp("project")
    raw = {
        "dependencies": [str(GRAPHS.parent)],
        "graphs": {"confidant": str(GRAPHS.parent / "confidant.py:graph")},
        "webhooks": {"url": {"disable_loopback": False}},
    }
    (folder / "langgraph.json").write_text(json.dumps(raw))
    return str(folder / "langgraph.json")


@pytest.fixture(scope="module")
def handled(config: str) -> str:
    """The same project, with an encryption of its own."""
    raw = json.loads(Path(config).read_text())
    raw["encryption"] = {"path": str(GRAPHS.parent / "encrypting.py:encryption")}
    path = Path(config).with_name("handled.json")
    path.write_text(json.dumps(raw))
    return str(path)


@pytest.fixture(scope="module", params=["key", "handlers"])
def system(
    request: pytest.FixtureRequest, new_system: NewSystem, config: str, handled: str
) -> Iterator[System]:
    """Everything is encrypted: with a key, or by the project's own handlers."""
    env = {**ENCRYPTED, "TRELLIS_AES_REQUIRED": "true", "TRELLIS_CONFIG": config}
    if request.param == "handlers":
        env = {"TRELLIS_CONFIG": handled}
    with running(new_system(env=env)) as system:
        system.start_worker()
        system.start_web()
        yield system


@pytest.fixture
def client(system: System) -> Iterator[SyncLangGraphClient]:
    with connected(system) as client:
        yield client


def connected(system: System, team: str = "red") -> SyncLangGraphClient:
    told = base64.b64encode(json.dumps({"team": team}).encode()).decode()
    headers = {"X-Encryption-Context": told}
    return get_sync_client(url=system.url, timeout=ANSWER_SECONDS, headers=headers)


def places(system: System, text: str = SECRET) -> set[str]:
    """The columns in which the text can be read."""
    columns = system.rows(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public'"
    )
    found = set()
    for table, column, kind in columns:
        shown = f"encode({column}, 'escape')" if kind == "bytea" else f"{column}::text"
        [(count,)] = system.rows(
            f"SELECT count(*) FROM {table} WHERE position(%s IN {shown}) > 0", text
        )
        if count:
            found.add(f"{table}.{column}")
    return found


def tell_everything(system: System, folder: Any) -> str:
    """Leave the secret in everything that is stored. Returns the thread whose run failed."""
    with connected(system) as client, receiving() as receiver:
        thread = client.threads.create(metadata={"pin": SECRET, "owner": "me"})["thread_id"]
        given = {"secret": SECRET, **Course(folder).input()}
        config = {"configurable": {"pin": SECRET}, "metadata": {"pin": SECRET}}
        context = {"pin": SECRET}
        asked = client.runs.wait(
            thread,
            "confidant",
            input=given,
            config=config,
            metadata={"pin": SECRET},
            webhook=receiver.url,
            headers={"Idempotency-Key": f"key-{thread}"},
        )
        assert asked["__interrupt__"][0]["value"] == {"about": SECRET}
        assert client.runs.wait(None, "confidant", input=given, on_completion="keep")["secret"]
        assistant = client.assistants.create("confidant", context=context, metadata=context)
        client.assistants.update(assistant["assistant_id"], config=config)
        client.crons.create("confidant", schedule="0 0 1 1 *", input=given, metadata=context)
        client.store.put_item(["notes"], key="mine", value={"text": SECRET, "n": 2}, index=False)
        failed = client.runs.wait(
            thread,
            "confidant",
            command={"resume": "fail"},
            webhook=receiver.url,
            raise_error=False,
            headers={"Idempotency-Key": f"again-{thread}"},
        )
        assert failed["__error__"]["message"] == f"cannot do {SECRET}"
        wait_for(lambda: len(receiver.got) == 2, what="both webhooks")
        first, second = sorted((told.body for told in receiver.got), key=lambda b: b["created_at"])
        assert first["kwargs"]["input"]["secret"] == first["values"]["secret"] == SECRET
        assert first["metadata"]["pin"] == SECRET
        assert second["error"]["message"] == f"cannot do {SECRET}"
    return thread


@pytest.fixture(scope="module")
def plain(new_system: NewSystem, config: str) -> Iterator[System]:
    """Nothing is encrypted, yet."""
    with running(new_system(env={"TRELLIS_CONFIG": config})) as system:
        system.start_worker()
        system.start_web()
        yield system


def test_without_a_key__the_secret_is_everywhere(plain: System, tmp_path: Any) -> None:
    """What the next tests do not find could be found: the places are those that docs/encryption.md lists."""
    tell_everything(plain, tmp_path)

    assert places(plain) == {
        "assistant.config",
        "assistant.context",
        "assistant.metadata",
        "assistant_version.config",
        "assistant_version.context",
        "assistant_version.metadata",
        "checkpoint.body",
        "checkpoint.metadata",
        "checkpoint_blob.data",
        "checkpoint_write.data",
        "cron.metadata",
        "cron.payload",
        "cron.run",
        "dead_letter.kwargs",
        "dead_letter.last_error",
        "dead_letter.traceback",
        "idempotency.answer",
        "run.error",
        "run.kwargs",
        "run.metadata",
        "store_item.value",
        "thread.error",
        "thread.interrupts",
        "thread.metadata",
        "webhook_outbox.payload",
    }


@pytest.fixture(scope="module")
def thread_id(system: System, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A thread whose run has failed, on a system that was told the secret in every way."""
    return tell_everything(system, tmp_path_factory.mktemp("told"))


def test_the_secret_is_nowhere_in_the_database(system: System, thread_id: str) -> None:
    assert places(system) == set()
    assert places(system, "owner")


def test_the_api_shows_what_was_stored(client: SyncLangGraphClient, thread_id: str) -> None:
    thread = client.threads.get(thread_id)
    run, first = client.runs.list(thread_id)
    state = client.threads.get_state(thread_id)

    assert thread["metadata"]["pin"] == thread["values"]["secret"] == SECRET
    assert thread["error"]["message"] == f"cannot do {SECRET}"
    assert first["kwargs"]["input"]["secret"] == first["metadata"]["pin"] == SECRET
    assert run["kwargs"]["command"] == {"resume": "fail"}
    assert state["values"]["log"] == [SECRET]
    assert state["metadata"]["pin"] == SECRET
    assert len(client.threads.get_history(thread_id)) == 4
    [assistant] = [each for each in client.assistants.search() if each["context"]]
    assert assistant["context"] == assistant["metadata"] == {"pin": SECRET}
    assert assistant["config"]["configurable"] == {"pin": SECRET}
    [cron] = client.crons.search()
    assert cron["payload"]["input"]["secret"] == cron["metadata"]["pin"] == SECRET


def test_metadata__that_is_encrypted_cannot_be_searched(
    client: SyncLangGraphClient, thread_id: str
) -> None:
    [asking] = client.threads.search(status="interrupted")
    [[question]] = asking["interrupts"].values()
    assert question["value"] == {"about": SECRET}
    [found] = client.threads.search(metadata={"owner": "me"})
    assert found["thread_id"] == thread_id
    assert found["metadata"]["pin"] == SECRET

    with pytest.raises(UnprocessableEntityError, match="'pin' is encrypted"):
        client.threads.search(metadata={"pin": SECRET})
    with pytest.raises(UnprocessableEntityError, match="'pin' is encrypted"):
        client.assistants.count(metadata={"pin": 1})
    with pytest.raises(UnprocessableEntityError, match="'pin' is encrypted"):
        client.crons.search(metadata={"pin": SECRET})
    with pytest.raises(UnprocessableEntityError, match="'pin' is encrypted"):
        client.threads.get_history(thread_id, metadata={"pin": SECRET})
    with pytest.raises(UnprocessableEntityError, match="only the server may use"):
        client.threads.create(metadata={"a": {"$sealed": "x"}})


def test_store__is_read_and_filtered(client: SyncLangGraphClient, thread_id: str) -> None:
    def keys(**query: Any) -> list[str]:
        return sorted(
            item["key"] for item in client.store.search_items(["notes"], **query)["items"]
        )

    item = client.store.get_item(["notes"], key="last")
    assert item["value"] == {"text": SECRET, "n": 1}
    assert keys() == ["last", "mine"]
    assert keys(filter={"text": SECRET}) == ["last", "mine"]
    assert keys(filter={"text": SECRET, "n": {"$gt": 1}}) == ["mine"]
    assert len(keys(filter={"text": SECRET}, limit=1)) == 1
    assert keys(filter={"text": SECRET}, offset=2) == []
    with pytest.raises(UnprocessableEntityError, match="only the server may use"):
        client.store.put_item(["notes"], key="forged", value={"$sealed": "x"})


def test_copy__is_encrypted_for_its_own_thread(
    system: System, client: SyncLangGraphClient, thread_id: str
) -> None:
    copied: Any = system.post(f"/threads/{thread_id}/copy", None)

    assert copied["error"]["message"] == f"cannot do {SECRET}"
    copy = client.threads.get(copied["thread_id"])
    assert copy["error"] == copied["error"]
    assert copy["values"] == client.threads.get(thread_id)["values"]
    assert len(client.threads.get_history(copied["thread_id"])) == 4
    assert client.threads.get_state(copied["thread_id"])["next"] == ["act"]
    assert places(system) == set()


def test_crash_and_restart__everything_goes_on(
    system: System, client: SyncLangGraphClient, clients: ThreadPoolExecutor, tmp_path: Any
) -> None:
    course, thread = Course(tmp_path), client.threads.create()["thread_id"]
    given = {"secret": SECRET, **course.input(hold=("act",))}
    client.runs.wait(thread, "confidant", input=given)
    waiting = clients.submit(client.runs.wait, thread, "confidant", command={"resume": "go"})
    course.wait_until_notes(">act")

    next(each for each in system.processes if each.name.startswith("worker")).kill()
    system.end_leases()
    course.open("act")
    system.start_worker()

    assert waiting.result()["log"] == [SECRET, "go"]
    assert course.journal().count(">act") == 2
    assert places(system) == set()


def test_rotation__and_rows_from_before_the_key(plain: System, tmp_path: Any) -> None:
    """Plain rows, then an old key, then a new one: all is read. Without the new one nothing starts."""

    def ask() -> str:
        thread = plain.new_thread()
        given = {"secret": SECRET, **Course(tmp_path).input()}
        body = {"assistant_id": "confidant", "input": given}
        assert plain.post(f"/threads/{thread}/runs/wait", body)["log"] == [SECRET]
        return thread

    thread = ask()
    stages: list[dict[str, str]] = [
        {"LANGGRAPH_AES_KEY": OLD_KEY},
        {"LANGGRAPH_AES_KEY": KEY, "LANGGRAPH_AES_FALLBACK_KEYS": OLD_KEY},
    ]
    for env in stages:
        plain.stop()
        plain.start_web(**env)
        plain.start_worker(**env)
        body = {"assistant_id": "confidant", "command": {"resume": "go"}}
        assert plain.get(f"/threads/{thread}")["values"]["secret"] == SECRET
        assert plain.post(f"/threads/{thread}/runs/wait", body)["secret"] == SECRET
        thread = ask()
    plain.stop()

    wrong = [
        plain.start(command, LANGGRAPH_AES_KEY=key)
        for command, key in (("web", OLD_KEY), ("worker", OLD_KEY), ("worker", ""))
    ]
    for process in wrong:
        assert process.ends(seconds=READY_SECONDS) != 0
        assert "LANGGRAPH_AES_FALLBACK_KEYS" in process.said()
        assert "Traceback" not in process.said()
    assert "worker.died" not in wrong[1].said()
