"""What the chaos tests found: one table of what must not happen, one of how long clients waited, and the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass
class Report:
    """Grows with each test; printed at the end of the session."""

    seeds: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    found: dict[str, Counter[str]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)

    def seed(self, kind: str, *, runs: int, found: Mapping[str, int]) -> None:
        """Add what a seed found."""
        self.seeds[kind] += 1
        self.runs[kind] += runs
        total = self.found.setdefault(kind, Counter())
        for name, count in found.items():
            total[name.replace("_", " ")] += count

    def answered(self, fault: str, seconds: float) -> None:
        """Add how long a client waited over a fault."""
        self.slowest[fault] = max(seconds, self.slowest.get(fault, 0.0))

    def figure(self, text: str) -> None:
        """Add a line of its own."""
        self.figures.append(text)

    def lines(self) -> Iterator[str]:
        for kind, found in self.found.items():
            told = ", ".join(f"{name} {count}" for name, count in found.items())
            yield f"{kind}: {self.seeds[kind]} seeds, {self.runs[kind]} runs: {told}"
        for fault, seconds in self.slowest.items():
            yield f"slowest answer over {fault}: {seconds:.1f} s"
        yield from self.figures
