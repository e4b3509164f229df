"""A training loop as the study's own was written (PAPER: published code), which fits are timed against.

Each image is decoded, resized and augmented by itself, in every epoch, in worker processes; the network runs eagerly,
in torch's default memory format.
"""
# ruff: noqa: S311 - chance is for augmentation here

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

ANGLE, BRIGHTNESS, HUE, EDGES = 20, 0.2, 13, 3.0  # degrees, share, of 256, times
CLIP = 0.1


class Pictures(Dataset[tuple[Tensor, int]]):
    """Files and their classes, 0 to 3; an image is read and augmented whenever it is asked for."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], side: int, *, augmented: bool = True) -> None:
        self.paths, self.labels, self.side, self.augmented = paths, labels, side, augmented

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.open(self.paths[index]).convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)
        if self.augmented:
            image = augment(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5, self.labels[index]


def augment(image: Image.Image) -> Image.Image:
    """The study's seven, one after the other, with Pillow."""
    image = image.rotate(random.uniform(-ANGLE, ANGLE), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    if random.random() < 0.5:
        image = ImageOps.flip(image)
    image = ImageEnhance.Brightness(image).enhance(random.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS))
    image = turn_hue(image, random.randint(-HUE, HUE))
    image = image.filter(ImageFilter.GaussianBlur(abs(random.gauss(0, 1))))
    if random.random() < 0.5:
        smooth = image.filter(ImageFilter.SMOOTH)
        edges = ImageChops.subtract(image, smooth)
        image = ImageChops.add(smooth, edges.point(lambda value: int(value * EDGES)))
    if random.random() < 0.5:
        image = ImageOps.autocontrast(image)
    return image


def turn_hue(image: Image.Image, by: int) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + by) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def loader(pictures: Pictures, batch: int, workers: int, seed: int) -> "DataLoader[tuple[Tensor, Tensor]]":
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        pictures, batch, shuffle=True, num_workers=workers, generator=generator, persistent_workers=workers > 0
    )


def optimiser(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=1e-5, amsgrad=True)


def train_epoch(
    model: nn.Module, batches: "DataLoader[tuple[Tensor, Tensor]]", optimizer: torch.optim.Optimizer, weights: Tensor
) -> float:
    """One epoch; gives the mean loss."""
    model.train()
    total = 0.0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels, weights)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        total += loss.item()
    return total / len(batches)
