"""Telling others to look."""
