"""The Wanted Board: its verbs, looking at it, and proposing a change upstream."""
