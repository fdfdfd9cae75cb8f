"""What the tests of ends write, and what they ask for."""

from __future__ import annotations

from trellis.db import checkpoints
from trellis.db.checkpoints.codec import pack_body
from trellis.db.rounds import Write
from trellis.domain.runs import Claim, Outcome, RunStatus, ThreadStatus

#: A checkpoint's body without anything in it.
BODY = pack_body({"inline": {}, "channel_versions": {}})
SUCCESS = Outcome(status=RunStatus.SUCCESS)
FAILED = Outcome(
    status=RunStatus.ERROR,
    thread_status=ThreadStatus.ERROR,
    error={"error": "ValueError", "message": "boom"},
)
THREAD = "SELECT status FROM thread WHERE thread_id = :t"
RUN = "SELECT status FROM run WHERE run_id = :r"
WHY = "SELECT error->>'message' FROM thread WHERE thread_id = :t"


def rows_of(claim: Claim, checkpoint_id: str, answer: str | None = None) -> Write:
    row = checkpoints.CheckpointRow(
        claim.thread_id, "", checkpoint_id, None, claim.run_id, claim.fence, BODY, "{}"
    )
    rows = checkpoints.Rows(checkpoints=[row])
    if answer is not None:
        data = answer.encode()
        rows = checkpoints.Rows(
            writes=[
                checkpoints.WriteRow(
                    claim.thread_id, "", checkpoint_id, "task", -4, "c", "t", data, "", claim.run_id
                )
            ]
        )
    return Write(claim=claim, rows=rows)
