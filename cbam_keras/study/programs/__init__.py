"""Studies that are made and run in one call."""
