"""What studies claim, and what searches find, where the truth is known."""
