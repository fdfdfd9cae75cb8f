"""Rows. The only package that writes SQL. Functions take the transaction first and never commit."""
