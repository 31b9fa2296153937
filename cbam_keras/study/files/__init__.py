"""What a run leaves: outcomes, states, the output folder."""
