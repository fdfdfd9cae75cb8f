"""A run is as urgent as its metadata say."""

from langgraph_sdk import Priority, PriorityContext, PrioritySettings

priority = Priority()


@priority.assign
async def assign(ctx: PriorityContext) -> PrioritySettings:
    return {"priority": ctx.run_metadata.get("urgency")}
