"""A graph that fails to import, at line 3, with what no database can store."""

raise RuntimeError("no such graph: \x00, \ud800")
