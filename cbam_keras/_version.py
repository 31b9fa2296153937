"""The version of the package."""

__version__ = "0.8.1.dev0"
