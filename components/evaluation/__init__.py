"""Metrics, calibration, gates and the report."""
