"""What is to be simulated, as one object that identifies the result."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from components.culture import Modality
from components.datasets.simulation.growth import POSITIONS, Growth
from components.datasets.simulation.microscope import Microscope
from components.datasets.simulation.picture import check_size
from components.errors import InputError

FORMAT = "mscflow-simulation/1"


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is to be simulated; equal simulations give equal files.

    Raises:
        InputError: if a value is out of range.
    """

    images: int
    modality: Modality
    seed: int
    size: tuple[int, int]
    vessels: int
    growth: Growth
    microscope: Microscope
    abnormal_fraction: float

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(f"images {self.images} is too few: give 1 or more")
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is negative: give 0 or more")
        check_size(self.size)
        if not 0.0 <= self.abnormal_fraction <= 1.0:
            raise InputError(f"abnormal_fraction {self.abnormal_fraction} is not a fraction: give 0 to 1")
        if not 1 <= self.vessels <= self.images:
            raise InputError(
                f"vessels {self.vessels} is out of range: give 1 to {self.images} for {self.images} images"
            )
        most = self.growth.days * len(POSITIONS)
        if self.images > self.vessels * most:
            raise InputError(
                f"images {self.images} are more than {self.vessels} vessels give on {self.growth.days} days: "
                f"give at least {math.ceil(self.images / most)} vessels"
            )

    def as_json(self) -> dict[str, Any]:
        """Give what identifies the simulation, as it is kept beside the images."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"format": FORMAT, **fields}
