"""From the supersteps of a body to changes of a thread's state."""

from __future__ import annotations

from collections.abc import Sequence

from trellis.api import new_run
from trellis.api.schemas import Superstep, SuperstepUpdate
from trellis.services.state_updates import Update


def updates(given: Sequence[Superstep]) -> list[list[Update]]:
    """
    What nodes are to have said, superstep by superstep.

    :raises Invalid: a command makes no sense.
    """
    return [[_update(each) for each in superstep.updates] for superstep in given]


def _update(given: SuperstepUpdate) -> Update:
    command = new_run.command(given.command)
    return Update(values=given.values, command=command, as_node=given.as_node)
