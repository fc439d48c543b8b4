"""What a pull request may change: row diffs in, findings out, a module a subject.  Pure; rules read `lifecycle`.

This judges by the object check, the lifecycle table and ownership at
upstream.  Limits, trust levels and rules about text get their place here.

Everything is read from upstream's own data at the merge base's side: the
actor is the owner of the fork, never a column of the fork.
"""
