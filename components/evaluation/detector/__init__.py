"""Evaluation, gate and report of a detector of abnormal cells."""
