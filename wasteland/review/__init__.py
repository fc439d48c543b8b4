"""Judging, landing and answering what others propose."""
