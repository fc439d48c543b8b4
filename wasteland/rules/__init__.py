"""What may be done, by whom, and when.  Pure: no module here does I/O."""
