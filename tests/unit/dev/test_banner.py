import ast
import json
import shlex

from trellis.dev.banner import banner, curl_line, pick_graph, sdk_snippet

URL = "http://127.0.0.1:2024"


def test_banner() -> None:
    text = banner(url=URL, graph_ids=["echo", "agent"], data_dir="/data", reload=True)

    assert text.startswith(f"Trellis is ready: {URL}\n")
    for part in (f"{URL}/docs", "echo, agent", "/data", "restarts web and worker"):
        assert part in text


def test_banner__what_is_to_be_pasted_is_not_indented() -> None:
    lines = banner(url=URL, graph_ids=["agent"], data_dir="/data", reload=False).splitlines()

    assert curl_line(URL, "agent") in lines
    for line in sdk_snippet(URL, "agent").splitlines():
        assert line in lines


def test_pick_graph() -> None:
    assert pick_graph(["echo", "agent"]) == "agent"
    assert pick_graph(["echo", "other"]) == "echo"


def test_curl_line() -> None:
    words = shlex.split(curl_line(URL, "it's"))

    assert words[:3] == ["curl", "-s", f"{URL}/runs/wait"]
    body = json.loads(words[words.index("-d") + 1])
    assert body["assistant_id"] == "it's"
    assert body["input"]["messages"][0]["role"] == "user"


def test_sdk_snippet__is_python() -> None:
    assert len(ast.parse(sdk_snippet(URL, 'a"b')).body) == 4
