"""Gas Town: the local engine that has coding agents do claimed work, tests it and lands it."""
