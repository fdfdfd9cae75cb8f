"""Rules that need no I/O; standard library only."""
