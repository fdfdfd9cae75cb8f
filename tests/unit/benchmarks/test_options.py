"""The command line."""

import pytest

from benchmarks.goals import FULL, QUICK
from benchmarks.options import SCENARIOS, parse, plan_of


def test_parse__nothing_given():
    options = parse([])

    assert options.scenario == list(SCENARIOS)
    assert options.rounds == 1
    assert plan_of(options) == FULL


def test_parse__a_peer_is_measured_in_turns():
    assert parse(["--peer", "dev"]).rounds == 2
    assert parse(["--peer-url", "http://localhost:1"]).rounds == 2


def test_parse__chosen_scenarios_keep_their_order():
    assert parse(["--scenario", "cpu, echo"]).scenario == ["cpu", "echo"]


def test_plan_of__sizes_given():
    plan = plan_of(parse(["--quick", "--streams", "4000", "--memory-runs", "9"]))

    assert (plan.open_streams, plan.memory_runs) == (4000, 9)
    assert plan.idle_seconds == QUICK.idle_seconds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "echo,nonsense"], "no scenario 'nonsense'"),
        (["--peer", "dev", "--peer-url", "http://localhost:1"], "give one of them"),
        (["--pids", "web=1"], "describe the server at --url"),
        (["--url", "http://localhost:1", "--pids", "web"], "is not kind=pid"),
        (["--peer", "aegra"], "invalid choice"),
    ],
)
def test_parse__mistakes(arguments, said, capsys):
    with pytest.raises(SystemExit):
        parse(arguments)

    assert said in capsys.readouterr().err
