"""What is measured, on one side, once."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from benchmarks import processes
from benchmarks.client import Client
from benchmarks.goals import Plan
from benchmarks.load import Load
from benchmarks.stats import percentile


@dataclass(frozen=True, kw_only=True)
class Side:
    """A server that is measured: its address, its processes by kind, and its database if known."""

    name: str
    url: str
    roots: processes.Roots = field(default_factory=dict)
    database_url: str | None = None
    #: What its start took, and what it consists of.
    start: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Record:
    """What one round found."""

    values: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    operations: int = 0

    def count(self, load: Load) -> None:
        """Take over how many operations a load had, and which failed."""
        self.operations += len(load.seconds) + len(load.errors)
        self.errors += load.errors

    def spread(self, name: str, load: Load, *, shares: tuple[float, ...] = (0.5, 0.99)) -> None:
        """Note percentiles of a load in milliseconds."""
        for share in shares:
            self.values[f"{name} p{share * 100:g}, ms"] = percentile(load.seconds, share) * 1e3


@dataclass(frozen=True, kw_only=True)
class Round:
    """One scenario on one side: the client to ask with, and the record to fill."""

    client: Client
    side: Side
    plan: Plan
    record: Record = field(default_factory=Record)

    def cpu(self) -> dict[str, float]:
        """Read the CPU seconds used so far, by kind; empty when the processes are not known."""
        return processes.cpu_seconds(self.side.roots)

    def note_cpu(self, name: str, before: Mapping[str, float], *, runs: int) -> None:
        """Note CPU milliseconds per run since `before`: the sum, then each kind."""
        used = processes.used_between(before, self.cpu())
        if not used or not runs:
            return
        self.record.values[f"{name}, CPU ms/run"] = sum(used.values()) * 1e3 / runs
        if len(used) > 1:
            for kind, seconds in used.items():
                self.record.values[f"{name}, CPU ms/run, {kind}"] = seconds * 1e3 / runs


Scenario = Callable[[Round], Awaitable[None]]


def registered() -> dict[str, Scenario]:
    """Name every scenario, in the order in which they run: idle before anything has grown."""
    from benchmarks import runs, state, streams

    return {
        "idle": state.idle,
        "latency": runs.latency,
        "echo": runs.echo,
        "ten": runs.ten,
        "first-event": streams.first_event,
        "burst": streams.burst,
        "tokens": streams.tokens,
        "slow-tokens": streams.slow_tokens,
        "sleepers": runs.sleepers,
        "history": state.history,
        "open": streams.open_streams,
        "blocked": state.blocked,
        "cpu": runs.cpu,
        "memory": state.memory,
    }
