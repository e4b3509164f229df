"""What the cells of a culture have in common: how they look and which way they point."""

from dataclasses import dataclass, replace

import numpy as np

from components.datasets.simulation.noise import Field, smooth_noise


@dataclass(frozen=True, slots=True)
class Habit:
    """How the cells of one culture look, which depends on donor and passage.

    Attributes:
        scale: Size of the cells against the default, for the image's magnification too.
        slenderness: Length against width, 1 for the default spindle.
        evenness: How evenly the cells were seeded: 1 keeps them apart, 0 leaves clusters and gaps.
        rounded: Share of cells that are lifted off the floor, round and bright.
    """

    scale: float = 1.0
    slenderness: float = 1.0
    evenness: float = 0.6
    rounded: float = 0.015

    def at(self, factor: float) -> "Habit":
        """Give the same habit drawn at another magnification."""
        return replace(self, scale=self.scale * factor)


@dataclass(frozen=True, slots=True)
class Streams:
    """The directions that cells follow: a nematic, with streams that bend and half-turn swirls.

    Attributes:
        angles: (h, w) float32 radians on a coarse grid over the whole floor.
    """

    angles: Field

    @classmethod
    def flow(cls, shape: tuple[int, int], coherence: float, rng: np.random.Generator) -> "Streams":
        """Draw directions that agree over about ``coherence`` pixels of a floor of this shape."""
        step = max(1, int(coherence / 6))
        grid = (shape[0] // step + 1, shape[1] // step + 1)
        real, imaginary = (smooth_noise(rng, grid, coherence / step) for _ in range(2))
        return cls(np.asarray(0.5 * np.arctan2(real, imaginary), np.float32))

    def at(self, down: float, right: float) -> float:
        """Give the direction at a place, in shares of the floor's height and width."""
        height, width = self.angles.shape
        return float(self.angles[int(down * height), int(right * width)])
