"""The random adversarial test of the run protocol: SEEDS=20 RUNS=10000 for a long one (`make chaos`)."""

from __future__ import annotations

import os
from typing import Any

import pytest
from sqlalchemy import Engine

from chaos.invariants import fences_out_of_order, untold_webhooks, violations
from chaos.report import Report
from chaos.simulation import Simulation

SEEDS = int(os.environ.get("SEEDS", "2"))
#: Of all seeds together.
RUNS = int(os.environ.get("RUNS", "240"))


@pytest.mark.timeout(60 + RUNS / SEEDS)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_invariants(audited_url: str, engine: Engine, one: Any, report: Report, seed: int) -> None:
    simulation = Simulation(audited_url, engine, seed=str(seed), wanted=-(-RUNS // SEEDS))

    simulation.run()

    counts = violations(one, simulation.accepted)
    report.seed("simulation", runs=len(simulation.accepted), found=counts)
    print(dict(sorted(simulation.happened.items())))
    assert simulation.failures == []
    assert counts == dict.fromkeys(counts, 0)
    assert fences_out_of_order(one) == 0
    assert untold_webhooks(one) == 0
    assert {len(made) for made in simulation.by_key.values()} <= {1}
    assert one("SELECT count(*) FROM run") == len(simulation.accepted)
    assert one("SELECT max(crashes) FROM run") <= 3
    # It was a storm, and not a calm day.
    for what in (
        "crash",
        "freeze",
        "release",
        "hint lost",
        "hint doubled",
        "answer lost",
        "finish fenced",
        "isolated, shared",
        "isolated, alone",
    ):
        assert simulation.happened[what], what
