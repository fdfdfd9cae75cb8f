"""Execution: claim → drive the graph → checkpoints and events → finish."""
