"""What trains something else through `study.Task`, run in a clone."""
