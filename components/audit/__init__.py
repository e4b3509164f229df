"""The audit log: who did what to data and models, when and why, in a chain that nobody can rewrite unnoticed."""
