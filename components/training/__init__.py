"""Fitting one model, on one process or many."""
