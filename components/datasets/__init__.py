"""Data versions: import, validate, snapshot, split, simulate."""
