import json
from pathlib import Path

from trellis.dev.command import choose_config, choose_data_dir, demo_config, given


def test_choose_config__asked(tmp_path: Path) -> None:
    asked = Path("elsewhere/langgraph.json")

    assert choose_config(asked, here=tmp_path) == asked


def test_choose_config__of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text("{}")

    assert choose_config(None, here=tmp_path) == tmp_path / "langgraph.json"


def test_choose_config__else_the_demo(tmp_path: Path) -> None:
    assert choose_config(None, here=tmp_path) == demo_config()


def test_demo_config() -> None:
    graphs = json.loads(demo_config().read_text())["graphs"]

    assert {"agent", "approval"} <= set(graphs)


def test_choose_data_dir(tmp_path: Path) -> None:
    project = tmp_path / "project"

    asked = choose_data_dir(tmp_path / "data", config=None, here=tmp_path)
    beside = choose_data_dir(None, config=project / "langgraph.json", here=tmp_path)
    here = choose_data_dir(None, config=None, here=tmp_path)

    assert asked == tmp_path / "data"
    assert beside == project / ".trellis"
    assert here == tmp_path / ".trellis"


def test_choose_data_dir__beside_a_config_given_as_a_folder(tmp_path: Path) -> None:
    assert choose_data_dir(None, config=tmp_path, here=Path("/")) == tmp_path / ".trellis"


def test_given__takes_the_first_that_is_set() -> None:
    env = {"A": "", "B": "b", "C": "c"}

    assert given(env, "A", "B", "C") == "b"
    assert given(env, "A") is None
