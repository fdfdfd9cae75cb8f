"""A run's events from first to last: encoded once, kept in a Redis Stream, relayed by one reader per process."""
