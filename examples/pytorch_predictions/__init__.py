"""Two small PyTorch networks, compared by the files that they write."""
