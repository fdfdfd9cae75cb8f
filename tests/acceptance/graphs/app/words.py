"""Imported by its neighbour through the package."""

WORD = "app.agent"
