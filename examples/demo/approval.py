"""A refund that a human must approve: the graph stops at interrupt() until somebody answers."""

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class Refund(TypedDict, total=False):
    order: str
    amount: float
    reason: str
    summary: str
    approved: bool
    note: str
    result: str


def prepare(state: Refund) -> Refund:
    order = state.get("order", "A-1042")
    amount = state.get("amount", 49.90)
    reason = state.get("reason", "arrived broken")
    summary = f"Refund {amount:.2f} EUR for order {order}: {reason}"
    return {"order": order, "amount": amount, "reason": reason, "summary": summary}


def ask(state: Refund) -> Refund:
    answer = interrupt(
        {
            "question": f"{state['summary']}. Pay it?",
            "order": state["order"],
            "amount": state["amount"],
            "answer_with": {"approved": True, "note": "optional"},
        }
    )
    return read_answer(answer)


def read_answer(answer: Any) -> Refund:
    """Understand {"approved": …, "note": …}, true or false, and a typed yes."""
    if isinstance(answer, dict):
        return {"approved": answer.get("approved") is True, "note": str(answer.get("note") or "")}
    said_yes = str(answer).strip().lower() in ("true", "yes", "y", "ok", "approve", "approved")
    return {"approved": said_yes, "note": ""}


def settle(state: Refund) -> Refund:
    note = f" ({state['note']})" if state["note"] else ""
    if not state["approved"]:
        return {"result": f"Declined order {state['order']}; nothing was paid{note}."}
    return {"result": f"Paid {state['amount']:.2f} EUR back for order {state['order']}{note}."}


graph = StateGraph(Refund).add_sequence([prepare, ask, settle]).add_edge(START, "prepare").compile()
