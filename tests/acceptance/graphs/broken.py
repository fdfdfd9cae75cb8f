"""A graph that fails to import, at line 3."""

graph = {}["no such graph"]
