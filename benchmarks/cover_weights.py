"""Make the first weights of ``cover_net``: draw cultures of every look, and learn their cover pixel by pixel.

python benchmarks/cover_weights.py                       writes components/models/cover_net.safetensors
python benchmarks/cover_weights.py --cultures 40 --epochs 1 --output WEIGHTS.safetensors      a trial

Nothing but simulated cultures goes in. Size, shape and crowding of cells, optics, light, focus, noise,
magnification and compression are drawn far more widely than any one laboratory's, so that what is
left to tell cells from bare floor is what all of them share. Equal seeds give the same drawings; sums over
several threads differ in their last digits, which 1,400 steps amplify, so that another run's weights differ
(they correlate to 0.95 or more, tensor by tensor) and do as well: docs/decisions/0064-taught-on-simulations.md. It
takes about ten minutes on two cores.
"""

import argparse
import io
import math
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from components.culture import Modality
from components.datasets.simulation import Habit, Microscope, render
from components.datasets.simulation.noise import smooth_noise
from components.datasets.simulation.workers import map_in_order
from components.imaging import resize, texture
from components.models.backbones import COVER_WEIGHTS, backbone
from components.models.cover import STRIDE, CoverNet

SIDE = 400  # of a drawn culture, pixels
INPUT = 128
VIEWS = 3  # ways in which each culture is shown
BATCH = 32
RATE = 2e-3
SHARE_WEIGHT = 5.0  # of the whole image's covered share beside that of each place


class View(NamedTuple):
    """What the network is shown, uint8 (INPUT, INPUT, 3), and the cover of each place, uint8 (h, w)."""

    planes: NDArray[np.uint8]
    cover: NDArray[np.uint8]


def culture(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw grey levels and the mask of one culture, in near half of them with a wound or a bare side."""
    confluence = float(rng.uniform()) if rng.random() < 0.9 else float(rng.integers(2))
    habit = Habit(
        scale=_log_uniform(rng, 0.3, 1.3),
        slenderness=_log_uniform(rng, 0.25, 1.6),
        evenness=float(rng.uniform()),
        rounded=float(rng.choice([0.0, 0.015, 0.1, 0.4, 0.85])),
    )
    microscope = Microscope(
        brightness=float(rng.uniform(0.25, 0.7)),
        contrast=_log_uniform(rng, 0.15, 2.2),
        blur=float(rng.choice([0.0, 0.5, 1.0, 2.0, 3.5]) * rng.uniform(0.6, 1.2)),
        unevenness=float(rng.uniform(0, 0.5)),
        noise=_log_uniform(rng, 0.002, 0.05),
        debris=float(rng.choice([0, 8, 25, 60])),
        clumps=float(rng.choice([0, 0, 0, 1])),
        layers=int(rng.choice([0, 0, 0, 0, 0, 1])),
    )
    draw = partial(render, modality=Modality.SINGLE_STACK, rng=rng, size=(SIDE, SIDE), microscope=microscope)
    grown = draw(confluence, habit=habit)
    if rng.random() >= 0.45:
        return grown.image, grown.mask
    bare, kept = draw(0.0), _side(rng)
    return np.where(kept, grown.image, bare.image), grown.mask & kept


def _side(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw where cells are left: one side of a wavy line, or both sides of a wound."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    waves = rng.choice([0.05, 0.2, 0.6]) * smooth_noise(rng, (SIDE, SIDE), float(rng.uniform(8, 60)))
    distance = np.cos(angle) * columns + np.sin(angle) * rows + waves - rng.uniform(-0.8, 0.8)
    kept: NDArray[np.bool_] = distance > 0 if rng.random() < 0.6 else np.abs(distance) > rng.uniform(0.2, 0.6)
    return kept


def view(image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator) -> View:
    """Show a part of a culture through another camera."""
    window = int(SIDE * _log_uniform(rng, 0.3, 1.0))
    top, left = rng.integers(0, SIDE - window + 1, 2)
    part = np.s_[top : top + window, left : left + window]
    side = int(rng.uniform(max(220, 0.7 * window), 512))
    seen = Image.fromarray(image[part]).resize((side, side), Image.Resampling.BICUBIC)
    covered = Image.fromarray(np.where(mask[part], np.uint8(255), np.uint8(0)))
    inside = np.asarray(covered.resize((side, side), Image.Resampling.NEAREST)) > 0
    grey = _compressed(_toned(np.asarray(seen, np.float64), inside, rng), rng)
    places = INPUT // STRIDE
    return View(
        resize(texture(np.repeat(grey[..., None], 3, axis=2)), INPUT),
        np.asarray(covered.resize((places, places), Image.Resampling.BOX)),
    )


def _toned(grey: NDArray[np.float64], inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change focus, sign, contrast, brightness and noise; cells stay visible, or nothing could be learnt of them."""
    if rng.random() < 0.5:
        grey = ndimage.gaussian_filter(grey, rng.uniform(0.3, 2.0))
    if rng.random() < 0.25:
        grey = 255 - grey
    mean = grey.mean()
    most_noise = 5.0
    if inside.mean() > 0.01:
        structure = float((grey - ndimage.gaussian_filter(grey, 6.0))[inside].std())
        wanted = _log_uniform(rng, 4.0, 30.0)
        grey = (grey - mean) * np.clip(wanted / max(structure, 0.3), 0.1, 8.0) + mean
        most_noise = min(6.0, 0.35 * wanted)
    grey = grey + rng.uniform(-40, 40)
    if rng.random() < 0.7:
        grain = _log_uniform(rng, 0.4, 1.6)
        noise = smooth_noise(rng, grey.shape, grain) if rng.random() < 0.4 else rng.standard_normal(grey.shape)
        grey = grey + _log_uniform(rng, 0.3, most_noise) * noise
    return np.clip(grey, 0, 255).astype(np.uint8)


def _compressed(grey: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < 0.6:
        return grey
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=int(rng.integers(40, 95)))
    return np.asarray(Image.open(file))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def views(index: int, seed: int) -> list[View]:
    rng = np.random.default_rng([seed, index])
    image, mask = culture(rng)
    return [view(image, mask, rng) for _ in range(VIEWS)]


def train(planes: Tensor, cover: Tensor, epochs: int, seed: int) -> CoverNet:
    """Learn the maps; planes (N, 3, S, S) normalised, cover (N, 1, h, w) in 0..1; each tenth view is held out."""
    torch.manual_seed(seed)
    model = CoverNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-3)
    held = torch.arange(len(planes)) // VIEWS % 10 == 0
    mine = torch.arange(len(planes))[~held]
    steps = -(-len(mine) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _course(step, steps, epochs))
    for epoch in range(epochs):
        model.train()
        started = time.perf_counter()
        for batch in torch.tensor_split(mine[torch.randperm(len(mine))], steps):
            turns, mirrored = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)
            seen, truth = (_turned(each[batch], turns, mirrored=mirrored) for each in (planes, cover))
            odds = model(seen.contiguous(memory_format=torch.channels_last))
            of_share = (odds.sigmoid().mean(dim=(1, 2, 3)) - truth.mean(dim=(1, 2, 3))).square().mean()
            loss = functional.binary_cross_entropy_with_logits(odds, truth) + SHARE_WEIGHT * of_share
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        error = _error(model, planes[held], cover[held])
        print(
            f"epoch {epoch + 1:3}  {time.perf_counter() - started:5.0f} s  covered share is off by {error:.3f}",
            flush=True,
        )
    return model


def _course(step: int, of_epoch: int, epochs: int) -> float:
    """One epoch's rise and a half cosine down to zero."""
    return min(1.0, (step + 1) / of_epoch) * (1 + math.cos(math.pi * step / (epochs * of_epoch))) / 2


def _turned(images: Tensor, turns: int, *, mirrored: bool) -> Tensor:
    turned = torch.rot90(images, turns, (2, 3))
    return turned.flip(3) if mirrored else turned


@torch.no_grad()
def _error(model: CoverNet, planes: Tensor, cover: Tensor) -> float:
    model.eval()
    shares = torch.cat([model(batch).sigmoid().mean(dim=(1, 2, 3)) for batch in torch.split(planes, BATCH)])
    return float((shares - cover.mean(dim=(1, 2, 3))).abs().mean())


def normalised(planes: NDArray[np.uint8]) -> Tensor:
    entry = backbone("cover_net")
    mean, std = (torch.tensor(each)[:, None, None] for each in (entry.mean, entry.std))
    return (torch.from_numpy(planes).permute(0, 3, 1, 2).float() / 255 - mean) / std


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cultures", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=COVER_WEIGHTS)
    given = parser.parse_args()
    started = time.perf_counter()
    drawn = [
        each for of_one in map_in_order(partial(views, seed=given.seed), range(given.cultures), None) for each in of_one
    ]
    print(f"{len(drawn)} views of {given.cultures} cultures drawn in {time.perf_counter() - started:.0f} s", flush=True)
    planes = normalised(np.stack([each.planes for each in drawn]))
    cover = torch.from_numpy(np.stack([each.cover for each in drawn])).float()[:, None] / 255
    model = train(planes, cover, given.epochs, given.seed)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, given.output)
    print(f"{given.output}: {given.output.stat().st_size / 1024:.0f} kB, {time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
