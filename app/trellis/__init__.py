"""Trellis: an open, self-hosted LangGraph Server.

HTTP → service → SQL, then announce. Worker → claim → drive the graph → checkpoints and events → finish.
They meet in Postgres (rows: the truth) and in Redis (hints and events, which may be lost without losing a run).
"""

__version__ = "0.1.0"
