"""Checks attention in source: `source.check_source`."""
