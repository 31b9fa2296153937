"""Trains two small networks on digits in PyTorch, and compares them.

No network is of Keras: what they predict for the test images goes into a file
of each network and seed, and these become tables, intervals and a page.

    pip install ".[predictions]" torch
    python -m examples.pytorch_predictions --output runs/pytorch
"""

import argparse
import pathlib

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a weight that depends on the image."""

    def __init__(self, channels, hidden=4):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
            nn.Sigmoid(),
        )

    def forward(self, x):
        weights = self.mlp(x.mean(dim=(2, 3)))
        return x * weights[:, :, None, None]


NETWORKS = {"none": nn.Identity, "se": lambda: SqueezeExcite(16)}


def build(attention):
    """Returns a network for gray images of 8 x 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        attention(),
        nn.Conv2d(16, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


def train(model, images, labels, epochs):
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    loss = nn.CrossEntropyLoss()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss(model(images[rows]), labels[rows]).backward()
            optimizer.step()


def write(folder, seeds, epochs):
    """Trains each network with each seed, and writes its predictions."""
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for name, attention in NETWORKS.items():
            # Both begin and shuffle alike, so that runs are paired by seed.
            torch.manual_seed(seed)
            model = build(attention)
            train(model, images[:1000], labels[:1000], epochs)
            model.eval()
            with torch.no_grad():
                probs = model(images[1000:]).softmax(dim=1)
            np.savez(
                folder / f"{name}_s{seed}.npz",
                probs=probs.numpy(),
                labels=labels[1000:].numpy(),
            )


def main(words=None):
    parser = argparse.ArgumentParser(
        prog="python -m examples.pytorch_predictions"
    )
    parser.add_argument("--output", default="runs/pytorch", metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args(words)
    output = pathlib.Path(options.output)
    write(output / "predictions", options.seeds, options.epochs)
    # As `cbam-keras report runs/pytorch/predictions` does. Keras is imported
    # here, and not to train.
    from cbam_keras import study

    results = study.results_of(output / "predictions")
    print(results)
    print(f"Report in {results.write(output / 'report')}")


if __name__ == "__main__":
    main()
