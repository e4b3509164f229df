"""The microscope and its camera: light, focus, contrast and noise, as settings that can drift."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from components.culture import Modality
from components.datasets.simulation.noise import Field, enlarge, smooth_noise
from components.errors import InputError

LIMITS = {
    "brightness": (0.1, 0.9),
    "contrast": (0.0, 3.0),
    "blur": (0.0, 20.0),
    "unevenness": (0.0, 1.0),
    "noise": (0.0, 0.5),
    "debris": (0.0, 1000.0),
    "clumps": (0.0, 50.0),
    "layers": (0, 10),
}


@dataclass(frozen=True, slots=True)
class Microscope:
    """How an image is taken.

    Attributes:
        brightness: Mean grey of the empty floor, 0 (black) to 1 (white).
        contrast: Strength of the phase contrast; 1 is that of a single-layer flask in focus.
        blur: Standard deviation of the blur, pixels of a 480-pixel image's scale.
        unevenness: Largest relative change of the light across the image.
        noise: Standard deviation of the camera's noise at mid grey, in shares of the full range.
        debris: Specks and floating dead cells expected on 480 x 480 pixels.
        clumps: Dark clumps expected on 480 x 480 pixels.
        layers: Layers of cells out of focus above and below the one that is judged.

    Raises:
        InputError: if a value lies outside its range.
    """

    brightness: float = 0.46
    contrast: float = 1.0
    blur: float = 0.7
    unevenness: float = 0.12
    noise: float = 0.016
    debris: float = 14.0
    clumps: float = 0.0
    layers: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), LIMITS[field.name]
            if not low <= value <= high:
                raise InputError(f"microscope {field.name} {value} is out of range: give {low} to {high}")

    @classmethod
    def for_modality(cls, modality: Modality) -> "Microscope":
        """Give the usual settings of a modality: stacked layers blur, veil and shade the image."""
        if modality is Modality.SINGLE_STACK:
            return cls()
        return cls(
            brightness=0.42, contrast=0.55, blur=2.3, unevenness=0.3, noise=0.014, debris=8.0, clumps=1.6, layers=2
        )

    def drifted(self, brightness: float = 0.0, blur: float = 0.0) -> "Microscope":
        """Give the same microscope with its light and focus changed, kept within their ranges."""
        low, high = LIMITS["brightness"]
        return replace(
            self,
            brightness=min(max(self.brightness + brightness, low), high),
            blur=min(max(self.blur + blur, 0.0), LIMITS["blur"][1]),
        )


def illuminate(shape: tuple[int, int], unevenness: float, rng: np.random.Generator) -> Field:
    """Draw the light on an empty floor, relative to its mean: a slope, a dark border and slow waves."""
    small = (shape[0] // 8, shape[1] // 8)
    y, x = np.ogrid[-1.0 : 1.0 : small[0] * 1j, -1.0 : 1.0 : small[1] * 1j]
    direction, centre = rng.uniform(0.0, 2 * np.pi), rng.normal(0.0, 0.25, 2)
    slope = np.cos(direction) * x + np.sin(direction) * y
    vignette = -((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
    waves = smooth_noise(rng, small, 0.16 * min(small))
    light = rng.uniform(0.2, 0.7) * slope + rng.uniform(0.2, 0.6) * vignette + rng.uniform(0.05, 0.25) * waves
    light -= light.mean()
    return enlarge((1.0 + unevenness * light / np.abs(light).max()).astype(np.float32), shape)


def expose(light: Field, noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn light (0 to 1, more is clipped) into grey levels with shot and read-out noise."""
    deviation = noise * np.sqrt(0.25 + 1.5 * np.clip(light, 0.0, None))
    noisy = light + deviation * rng.standard_normal(light.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy * 255.0 + 0.5, 0.0, 255.0), np.uint8)
