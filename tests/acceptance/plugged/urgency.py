"""A run is as urgent as its metadata say. What was asked last is kept for its nodes."""

from langgraph_sdk import Priority, PriorityContext, PrioritySettings
from langgraph_sdk.cache import cache_set

priority = Priority()


@priority.assign
async def assign(ctx: PriorityContext) -> PrioritySettings:
    await cache_set("asked", ctx.graph_id)
    return {"priority": ctx.run_metadata.get("urgency")}
