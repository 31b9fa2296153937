"""What pages call studies and networks."""

from benchmarks.measured import TITLES as MEASURED_TITLES

TITLES = MEASURED_TITLES | {
    "cbam-paper": "CBAM, the paper's initialization",
    "cbam-not-normalized": "CBAM, not normalized",
    "none-wide": "no attention, 25% more channels",
    "none-longer": "no attention, trained for longer",
    "none-16-epochs": "no attention, 16 epochs",
    "none-20-epochs": "no attention, 20 epochs",
    "official": "CBAM, the authors' layer",
    "affine": "scales and offsets of its batch normalization",
    "batch-norm": "all of its batch normalization",
    "skip-gate": "attention gates on the skips",
    "spatial-first": "CBAM, spatial gate first",
    "parallel": "CBAM, gates in parallel",
    "cbam-r2": "CBAM, reduction ratio 2",
    "cbam-r8": "CBAM, reduction ratio 8",
    "cbam-r16": "CBAM, reduction ratio 16",
    "cbam-k3": "CBAM, kernel size 3",
    "cbam-k5": "CBAM, kernel size 5",
    "lora": "LoRA of rank 1",
    **{
        f"cbam-stage-{x}": f"CBAM in stage {x.replace(',', ' and ')}"
        for x in ("1", "2", "3", "1,2", "1,3", "2,3")
    },
    "photographs-frozen": "CIFAR-10 enlarged to 96 pixels, frozen, at one rate",
    "photographs-frozen-chosen": "CIFAR-10 enlarged to 96 pixels, kept frozen",
    "digits-stages": "digits among clutter, again",
    "digits": "digits among clutter",
    "articles": "clothing among clutter",
    "fashion": "Fashion-MNIST",
    "few": "Fashion-MNIST, 1,800 training images",
    "cifar10": "CIFAR-10 from scratch",
    "cifar10-again": "CIFAR-10, new seeds",
    "cifar10-pooled": "CIFAR-10, 15 epochs",
    "cifar10-converged": "CIFAR-10, 60 epochs",
    "photographs-again": "CIFAR-10 enlarged to 96 pixels, pretrained network",
    "photographs": "CIFAR-10 enlarged to 96 pixels, best epoch tested",
    "solar-cells-again": "solar cells, pretrained network",
    "solar-cells": "solar cells, best epoch tested",
    "camvid": "CamVid, U-Net",
    "bccd": "blood cells, detection",
    "top-solar-cells": "solar cells, frozen network",
    "top-photographs": "CIFAR-10 enlarged to 96 pixels, frozen network",
    "top-clothes": "Fashion-MNIST, frozen network",
    "top-digits": "handwritten digits, frozen network",
    "top-solar-cells-chosen": "solar cells, rates chosen",
    "top-photographs-chosen": "CIFAR-10 enlarged to 96 pixels, rates chosen",
    "top-clothes-chosen": "Fashion-MNIST, rates chosen",
    "top-digits-chosen": "handwritten digits, rates chosen",
    "top-solar-cells-habit": "solar cells, two stages",
    "top-photographs-habit": "CIFAR-10 enlarged to 96 pixels, two stages",
    **{
        f"{name}-top": f"{MEASURED_TITLES[name]} at the top"
        for name in ("se", "cbam", "channel", "spatial", "eca", "coordinate")
    },
    "hidden": "a hidden layer with as many weights as CBAM",
    "last-affine": "factors and offsets of the last normalization",
    "low-rank": "an added product of rank 80",
    "tuned-stage1": "Fashion-MNIST, pretrained network, new layers",
    "tuned-stage2": "the same, then all layers",
}
