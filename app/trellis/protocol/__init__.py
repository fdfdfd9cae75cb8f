"""Protocol v2: what a run's log says, as the events of its thread."""
