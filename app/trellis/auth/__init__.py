"""
Who asks (authentication), and what they may touch (authorization).

One of three answers for a process, chosen by `build`:

- `Custom`: the `langgraph_sdk.Auth` that `auth.path` of langgraph.json names. Its handlers decide for each resource and
  action, may change what is asked for, and may return a filter on metadata.
- `BuiltIn`: API keys and JSON web tokens from the environment. They tell a tenant; tenants see nothing of each other.
- `Open`: nobody is asked. Only on loopback, or where the operator says so.

`api.access` asks it before every view, by a table that names every route: a route that is not in it is closed.
"""
