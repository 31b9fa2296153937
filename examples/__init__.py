"""Detectors, the paper's tables, predictions of PyTorch, run in a clone."""
