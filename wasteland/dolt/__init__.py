"""Dolt: the program, the server that a node owns, and one database on it."""
