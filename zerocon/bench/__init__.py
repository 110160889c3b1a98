"""The benchmark: edits of drawn scenes whose exact result is known, and their speed."""
