"""Detectors and the paper's tables, trained through `study` in a clone."""
