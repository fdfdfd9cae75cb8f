"""A chat model without a model: it answers from a script, word by word, and can call a tool."""

import ast
import asyncio
import operator
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool

SCRIPT = {
    ("crash", "kill", "lost", "lose", "durable", "safe"): (
        "Every step I take is a checkpoint in Postgres, written under a lease. If my worker dies, "
        "another one claims the run and goes on from the last checkpoint; what the dead worker "
        "still tries to write is refused."
    ),
    ("celery", "redis", "postgres", "queue", "scale", "worker"): (
        "Postgres holds the truth, Redis carries hints and streams, and Celery workers run the "
        "graphs. Start as many workers as you like: a lost message costs a moment, never a run."
    ),
    ("stream", "token", "event"): (
        "You are watching one: each of these words left the worker as an event, went through a "
        "Redis stream, and reached you over HTTP. Lose the connection, and you can rejoin."
    ),
    ("approval", "human", "interrupt", "approve"): (
        "Try the graph called approval. It prepares a refund, stops to ask you, and waits for "
        "your answer as long as it takes, without holding a worker."
    ),
    ("trellis", "who are you", "what are you", "what is this", "hello", "hi"): (
        "I am the demo agent of Trellis, an open server for LangGraph graphs. I follow a script, "
        "so I need no API key. Ask me about streams, workers or crashes, or give me a sum, "
        "such as 6 * 7."
    ),
}
FALLBACK = (
    "My script has no answer to that. I can tell you about Trellis, its streams, its workers and "
    "what happens in a crash, and I can calculate: try 12 * (3 + 4)."
)

EXPRESSION = re.compile(r"[(\s-]*\d[\d\s.()+*/-]*[+*/-][\d\s.()+*/-]*[\d)]")
OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@tool
def calculate(expression: str) -> str:
    """Work out an arithmetic expression with + - * / and parentheses."""
    try:
        return f"{_evaluate(ast.parse(expression[:200].strip(), mode='eval').body):.12g}"
    except ZeroDivisionError:
        return "undefined: it divides by zero"
    except (SyntaxError, KeyError, TypeError, ValueError, OverflowError):
        return "nothing I can work out"


def _evaluate(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_evaluate(operand))
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_evaluate(left), _evaluate(right))
    raise ValueError(f"{ast.dump(node)} is no arithmetic")


def reply(messages: Sequence[BaseMessage], *, can_calculate: bool) -> AIMessage:
    """Decide what comes next: a tool call, what the tool found, or a line of the script."""
    last = messages[-1] if messages else HumanMessage("")
    if isinstance(last, ToolMessage):
        return AIMessage(f"That is {last.text}.")
    text = last.text[:300].lower()
    if can_calculate and (found := EXPRESSION.search(text)):
        call = {
            "name": "calculate",
            "args": {"expression": found[0].strip()},
            "id": f"call_{len(messages)}",
        }
        return AIMessage("Let me work that out.", tool_calls=[call])
    words = set(re.findall(r"\w+", text))
    for cues, line in SCRIPT.items():
        if any(cue in words or (" " in cue and cue in text) or f"{cue}s" in words for cue in cues):
            return AIMessage(line)
    return AIMessage(FALLBACK)


class ScriptedChatModel(BaseChatModel):
    """Answers at once when invoked, and at a reader's pace when streamed."""

    delay_seconds: float = 0.03
    can_calculate: bool = False

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> "ScriptedChatModel":
        can_calculate = any(each.name == "calculate" for each in tools)
        return self.model_copy(update={"can_calculate": can_calculate})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            await asyncio.sleep(self.delay_seconds)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        return reply(messages, can_calculate=self.can_calculate)

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        answer = self._reply(messages)
        for word in re.findall(r"\S+\s*", answer.text):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        if answer.tool_calls:
            call = AIMessageChunk("", tool_calls=answer.tool_calls)
            yield ChatGenerationChunk(message=call)
