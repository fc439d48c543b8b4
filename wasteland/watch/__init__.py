"""Wait for what concerns a rig, and tell it: new items, pull requests that wait, verdicts, leases that end.

`events` says what has happened between two looks, `looking` looks, `memory`
keeps what was seen and what is still to be told, `telling` hands an event over
and `waiting` does all this again and again.

Delivery is at least once: what a look has found is on disk before the first of
it is told, and an event is crossed out after its line was flushed and its
program has ended well.  A kill in between tells that one event again, with the
same id.
"""
