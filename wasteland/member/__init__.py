"""Joining, forking and leaving a wasteland, and what passes between it and its parent."""
