"""How many public gates are what they are called: sources, and the counts."""
