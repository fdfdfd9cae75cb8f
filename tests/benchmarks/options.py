"""The command line of the benchmark."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.goals import FULL, QUICK, Plan
from benchmarks.processes import parse_roots
from benchmarks.scenarios import registered

DESCRIPTION = "Measure Trellis, alone or beside another LangGraph-compatible server."
SCENARIOS = tuple(registered())


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; a mistake ends the program with what it takes."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=f"Scenarios: {', '.join(SCENARIOS)}."
    )
    parser.add_argument("--quick", action="store_true", help="about a minute, rougher")
    parser.add_argument("--scenario", type=scenarios, default=list(SCENARIOS), metavar="A,B")
    parser.add_argument("--url", help="measure this running server instead of starting one")
    parser.add_argument("--pids", type=roots, default={}, metavar="web=1,worker=2+3")
    parser.add_argument("--database-url", help="of the server at --url, for bytes per turn")
    parser.add_argument("--peer", choices=["dev"], help="start `langgraph dev` and compare")
    parser.add_argument("--peer-url", help="compare with this running server")
    parser.add_argument("--peer-pids", type=roots, default={}, metavar="server=1")
    parser.add_argument("--peer-database-url")
    parser.add_argument("--peer-jobs", type=int, default=100, help="jobs of --peer dev")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument("--slots", type=int, default=512, help="runs at once in our worker")
    parser.add_argument("--rounds", type=int, help="per side; default 1, with a peer 2 (A B A B)")
    parser.add_argument("--streams", type=int, help="silent streams to hold open")
    parser.add_argument("--memory-runs", type=int, help="runs over which memory is watched")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a floor is not held")
    options = parser.parse_args(argv)
    if options.peer and options.peer_url:
        parser.error("--peer starts a peer, --peer-url takes one that runs: give one of them")
    if (options.pids or options.database_url) and not options.url:
        parser.error("--pids and --database-url describe the server at --url")
    options.rounds = options.rounds or (2 if options.peer or options.peer_url else 1)
    return options


def scenarios(text: str) -> list[str]:
    """Read a list of scenario names."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise argparse.ArgumentTypeError(
            f"no scenario {unknown[0]!r}; there are: {', '.join(SCENARIOS)}"
        )
    return names


def roots(text: str) -> dict[str, list[int]]:
    """Read processes by kind."""
    try:
        return parse_roots(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def plan_of(options: argparse.Namespace) -> Plan:
    """Choose how large the measurement is."""
    plan = QUICK if options.quick else FULL
    if options.streams:
        plan = replace(plan, open_streams=options.streams)
    if options.memory_runs:
        plan = replace(plan, memory_runs=options.memory_runs)
    return plan
