"""The floors and goals that are promised, and how large a quick and a full measurement is."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a value must hold (floor) and where it is going (goal)."""

    floor: float
    goal: float
    higher_is_better: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether the floor is held; NaN never holds it."""
        return value >= self.floor if self.higher_is_better else value <= self.floor


#: Two cores with everything on them, this load generator included.
GOALS: Mapping[tuple[str, str], Goal] = {
    ("start", "web answers /ok, s"): Goal(floor=2.0, goal=1.0),
    ("start", "first run answered, s"): Goal(floor=4.0, goal=3.0),
    ("latency", "wait on a thread p50, ms"): Goal(floor=20, goal=8),
    ("echo", "128 at a time, runs/s"): Goal(floor=150, goal=300, higher_is_better=True),
    ("echo", "128 at a time, CPU ms/run"): Goal(floor=8, goal=5),
    ("ten", "32 at a time, runs/s"): Goal(floor=80, goal=150, higher_is_better=True),
    ("first-event", "idle, first event p50, ms"): Goal(floor=15, goal=8),
    ("burst", "1 run, events/s"): Goal(floor=10_000, goal=20_000, higher_is_better=True),
    ("tokens", "32 streams, events/s"): Goal(floor=6000, goal=15000, higher_is_better=True),
    ("tokens", "128 streams, events/s"): Goal(floor=6000, goal=15000, higher_is_better=True),
    ("slow-tokens", "128 streams all ended, s"): Goal(floor=8.0, goal=4.5),
    ("sleepers", "500 of 1 s all done, s"): Goal(floor=5.0, goal=2.5),
    ("history", "1000 messages, turn p50, ms"): Goal(floor=35, goal=12),
    ("history", "1000 messages, database KB/turn"): Goal(floor=8, goal=4),
    ("open", "other requests p99, ms"): Goal(floor=20, goal=10),
    ("open", "web memory per stream, KB"): Goal(floor=25, goal=15),
    # "Unchanged": what two noisy cores add to a p99 is allowed, a stall is not.
    ("blocked", "API p99 rise, ms"): Goal(floor=50, goal=10),
    # "Flat": the allocator's noise over some thousand runs is about this much.
    ("memory", "growth, KB/run"): Goal(floor=2.0, goal=0.5),
}

#: Measures of which more is better; of all others, less is.
HIGHER_IS_BETTER = ("runs/s", "events/s")


def higher_is_better(measure: str) -> bool:
    """Tell the direction of a measure by its unit."""
    return measure.endswith(HIGHER_IS_BETTER)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large the measurement is. A count is cut short by its seconds, for slow sides."""

    idle_seconds: float
    latency_count: int
    latency_seconds: float
    throughput_seconds: float
    throughput_concurrency: tuple[int, ...] = (1, 8, 32, 128)
    token_streams: tuple[int, ...] = (32, 128)
    bursts: int
    token_repeats: int
    slow_streams: int = 128
    sleepers: int = 500
    history_sizes: tuple[int, ...] = (200, 1000)
    history_turns: int
    history_seconds: float
    open_streams: int
    api_seconds: float
    block_seconds: float = 6.0
    cpu_count: int
    memory_runs: int


QUICK = Plan(
    idle_seconds=3,
    latency_count=40,
    latency_seconds=4,
    throughput_seconds=2.5,
    bursts=3,
    token_repeats=1,
    history_turns=40,
    history_seconds=4,
    open_streams=400,
    api_seconds=2,
    cpu_count=16,
    memory_runs=1200,
)

FULL = Plan(
    idle_seconds=10,
    latency_count=150,
    latency_seconds=10,
    throughput_seconds=8,
    bursts=10,
    token_repeats=3,
    history_turns=100,
    history_seconds=12,
    open_streams=1000,
    api_seconds=5,
    cpu_count=40,
    memory_runs=4000,
)
