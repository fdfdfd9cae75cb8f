"""A user's package with the name that many projects give theirs."""
