"""What a signature says, and whether it holds.  Pure."""
