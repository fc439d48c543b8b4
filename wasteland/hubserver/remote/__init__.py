"""Dolt's own remote protocol, with rights for each repository."""
