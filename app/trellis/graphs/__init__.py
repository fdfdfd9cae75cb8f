"""The user's code: where it is declared, how it is imported, what may be known of it."""
