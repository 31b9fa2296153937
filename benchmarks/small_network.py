"""What does attention add to the time of a small network?

    python -m benchmarks.small_network --mode jax

Measures what `networks` does, of a residual network of 20,000 parameters,
where attention costs most.
"""

from benchmarks import networks

if __name__ == "__main__":
    networks.main("small_network", __doc__, 30, ["tiny"], 64, 48)
