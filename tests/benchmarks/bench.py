"""Measure Trellis, alone or beside another LangGraph-compatible server, and print one table."""

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, nullcontext
from importlib.metadata import version
from pathlib import Path

# Run as a program, only this file's own folder is known; its modules are the package `benchmarks`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import children, peer, report, servers
from benchmarks.client import Client
from benchmarks.options import parse, plan_of
from benchmarks.report import OURS, PEER
from benchmarks.scenarios import Record, Round, Side, registered

GRAPHS = Path(__file__).resolve().parent / "graphs"
#: A side that needs longer for one scenario is stuck, and the others still want to be measured.
SCENARIO_SECONDS = 240
#: The memory scenario may be asked for more runs than fit: so many a second are expected at least.
LEAST_RUNS_PER_SECOND = 25

Records = dict[str, dict[str, list[Record]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 1 after errors on our side."""
    options = parse(argv)
    children.allow_many_files()
    # So that the servers are stopped however this is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        try:
            sides = {OURS: stack.enter_context(ours(options))}
            if beside := other(options):
                sides[PEER] = stack.enter_context(beside)
        except children.StartFailed as failure:
            print(failure, file=sys.stderr)
            return 2
        about = describe(options, sides)
        print("\n".join(f"{name}: {what}" for name, what in about.items()), flush=True)
        records = starts(sides) | run(options, sides)
    return conclude(options, records, about)


def ours(options: argparse.Namespace) -> AbstractContextManager[Side]:
    """Start our stack, or take the one that runs."""
    if not options.url:
        return servers.running(GRAPHS, slots=options.slots)
    return nullcontext(
        Side(
            name="ours",
            url=options.url,
            roots=options.pids,
            database_url=options.database_url,
            about={"ours": options.url},
        )
    )


def other(options: argparse.Namespace) -> AbstractContextManager[Side] | None:
    """Start or take the peer. None: nothing to compare with."""
    if options.peer:
        return peer.running(GRAPHS, jobs=options.peer_jobs)
    if options.peer_url:
        return nullcontext(
            Side(
                name="peer",
                url=options.peer_url,
                roots=options.peer_pids,
                database_url=options.peer_database_url,
                about={"peer": options.peer_url},
            )
        )
    return None


def describe(options: argparse.Namespace, sides: dict[str, Side]) -> dict[str, str]:
    """Say when, where and on what this was measured."""
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    size = "quick" if options.quick else "full"
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load average {load}",
        "versions": f"Python {platform.python_version()}, langgraph {version('langgraph')}",
        "measured": f"{size}, {options.rounds} round(s) per side; the generator shares the cores",
        **{name: what for side in sides.values() for name, what in side.about.items()},
    }


def starts(sides: dict[str, Side]) -> Records:
    """Give what the starts took, if they were ours to make."""
    found = {name: [Record(values=dict(side.start))] for name, side in sides.items() if side.start}
    return {"start": found} if found else {}


def run(options: argparse.Namespace, sides: dict[str, Side]) -> Records:
    """Measure on the fastest event loop there is."""
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(measure(options, sides))


def event_loop() -> asyncio.AbstractEventLoop:
    """Make uvloop's event loop, or the standard one where there is none."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def measure(options: argparse.Namespace, sides: dict[str, Side]) -> Records:
    """Measure every chosen scenario, the sides taking turns: A B A B."""
    plan, headers = plan_of(options), dict(each.split(":", 1) for each in options.header)
    records: Records = {}
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(Client(side.url, headers=headers))
            for name, side in sides.items()
        }
        for scenario in options.scenario:
            records[scenario] = {name: [] for name in sides}
            for name in list(sides) * options.rounds:
                now = Round(client=clients[name], side=sides[name], plan=plan)
                await once(scenario, now)
                records[scenario][name].append(now.record)
    return records


async def once(scenario: str, now: Round) -> None:
    """Measure one scenario on one side; what goes wrong is an error of that round."""
    began = time.perf_counter()
    try:
        limit = max(SCENARIO_SECONDS, now.plan.memory_runs / LEAST_RUNS_PER_SECOND)
        await asyncio.wait_for(registered()[scenario](now), limit)
    except Exception as error:
        now.record.errors.append(f"{type(error).__name__}: {error}"[:300])
    failed = f", {len(now.record.errors)} errors" if now.record.errors else ""
    took = time.perf_counter() - began
    print(f"  {scenario}, {now.side.name}: {took:.1f} s{failed}", file=sys.stderr, flush=True)


def conclude(options: argparse.Namespace, records: Records, about: Mapping[str, str]) -> int:
    """Print the table and what failed, write the JSON file, and return the exit code."""
    found = report.rows(records)
    print(f"\n{report.table(found)}\n")
    for failure in report.failures(records):
        print(f"✗ {failure}")
    print(report.summary(found))
    if options.json:
        text = json.dumps(report.as_json(records, found, about), indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n")
    failed = any(report.errors(sides.get(OURS, ())) for sides in records.values())
    missed = any(row.holds is False for row in found)
    return 1 if failed or (options.strict and missed) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
