"""Chores that any worker may do at any time: no leader, `SKIP LOCKED`, the database's clock."""
