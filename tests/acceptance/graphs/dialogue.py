"""A conversation that does what the human says: it answers slowly, asks for approval, or fails."""

from typing import Any

from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from steps import note, passage


class Dialogue(MessagesState, total=False):
    folder: str


class Echo(SimpleChatModel):
    """Says word by word what it heard; what begins with "slowly", a test holds after the first word."""

    course: dict[str, Any]

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _call(self, messages, stop=None, run_manager=None, **kwargs):
        return f"Heard: {messages[-1].text}"

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        heard = messages[-1].text
        yield chunk("Heard:")
        if heard.startswith("slowly"):
            note(self.course, f">{heard}")
            await passage({**self.course, "hold": [heard]}, heard)
        for word in heard.split():
            yield chunk(f" {word}")


def chunk(text):
    return ChatGenerationChunk(message=AIMessageChunk(text))


async def answer(state: Dialogue):
    get_stream_writer()({"progress": "answering"})
    model = Echo(course={"folder": state.get("folder")})
    return {"messages": [await model.ainvoke(state["messages"])]}


def check(state: Dialogue):
    heard = state["messages"][-2].text
    if heard.startswith("fail"):
        raise ValueError("boom")
    if heard.startswith("ask"):
        decision = interrupt({"question": f"Shall I {heard}?"})
        return {"messages": [AIMessage(f"Decided: {decision}")]}
    return {}


graph = StateGraph(Dialogue).add_sequence([answer, check]).add_edge(START, "answer").compile()
