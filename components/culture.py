"""The words of the domain: confluence bands, imaging modalities and process decisions.

Source: Ngo, Lee et al., International Journal of Stem Cells, 2024 (bands, modalities, tasks).
"""

from enum import IntEnum, StrEnum


class Decision(StrEnum):
    """What the process does next with a culture, given its confluence."""

    SEEDING = "seeding"
    MEDIA_CHANGE = "media change"
    SUBCULTURE = "subculture"
    OVERGROWN = "overgrown"


class ConfluenceClass(IntEnum):
    """The four confluence bands; each includes its lower bound, and the last its upper one."""

    SEEDING = 1
    MEDIA_CHANGE = 2
    SUBCULTURE = 3
    OVERGROWN = 4

    @property
    def decision(self) -> Decision:
        """The process decision that belongs to the band."""
        return Decision[self.name]

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper confluence of the band, as fractions of the covered floor."""
        return BAND_EDGES[self - 1], BAND_EDGES[self]

    @classmethod
    def from_confluence(cls, fraction: float) -> "ConfluenceClass":
        """Give the band of a confluence fraction.

        Args:
            fraction: Covered share of the vessel's floor, 0 to 1.

        Raises:
            ValueError: if the fraction lies outside 0 to 1.
        """
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"confluence {fraction} is not a fraction from 0 to 1")
        return cls(min(sum(fraction >= edge for edge in BAND_EDGES), 4))


BAND_EDGES = (0.0, 0.4, 0.6, 0.8, 1.0)
CLASSES = tuple(ConfluenceClass)
CLASS_NAMES = tuple(member.decision.value for member in CLASSES)
N_CLASSES = len(CLASSES)


class Modality(StrEnum):
    """How the vessel is built, which decides how its images look; each has a model of its own."""

    SINGLE_STACK = "single_stack"
    MULTI_STACK = "multi_stack"

    @property
    def model_name(self) -> str:
        """Name of the registered confluence model of this modality."""
        return f"confluence-{self.value.replace('_', '-')}"


class Task(StrEnum):
    """What a model is asked about an image."""

    CONFLUENCE = "confluence"
    ABNORMAL_CELLS = "abnormal_cells"


# The study's label of an abnormal (enlarged, flattened) cell, and the model that finds them.
ABNORMAL_LABEL = "Flatten"
ABNORMAL_MODEL = "abnormal-cells"
# What the endpoint calls all its models together: one image, one answer.
CULTURE_MODEL = "culture"


class Position(StrEnum):
    """The five places at which a vessel is imaged daily."""

    TOP_LEFT = "top_left"
    TOP_RIGHT = "top_right"
    BOTTOM_LEFT = "bottom_left"
    BOTTOM_RIGHT = "bottom_right"
    CENTRE = "centre"
