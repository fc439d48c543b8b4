"""A node of the Wasteland: a federated task market with signed reputation, kept in Dolt."""

__version__ = "0.1.0"
