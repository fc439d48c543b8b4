"""What this machine keeps: configuration, keys, the journal."""
