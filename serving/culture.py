"""All models together: one image in, its confluence and its abnormal cells out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from components.culture import CULTURE_MODEL, Modality
from components.endpoint.prediction import CellsPrediction, CulturePrediction, Prediction
from components.imaging import Pixels
from components.novelty import Floats, describe
from serving.classifier import Classifier
from serving.detector import Detector
from serving.loaded import Prepared
from serving.refusals import Refusal, UnknownName


class _Asked(NamedTuple):
    modality: Modality
    confluence: Prepared
    cells: Prepared | None

    @property
    def description(self) -> Floats | None:
        return self.confluence.description


@dataclass(frozen=True)
class Culture:
    """The versions that answer together for one request; it never changes.

    Attributes:
        classifiers: By the modality that each was made for.
        detector: For single-stack images; None where none is served.
    """

    classifiers: Mapping[Modality, Classifier]
    detector: Detector | None

    @property
    def version(self) -> str:
        """The versions of its parts, such as ``confluence-single-stack=3,abnormal-cells=1``."""
        return ",".join(f"{part.name}={part.version}" for part in self._parts())

    def describe(self) -> dict[str, Any]:
        """Which versions answer, for clients."""
        return {"version": self.version, "models": {part.name: part.describe() for part in self._parts()}}

    def prepare(self, image: Pixels, modality: Modality | None) -> _Asked:
        """Bring an image to the size of each network that is to see it.

        Args:
            image: RGB, shape (height, width, 3), or a picture.
            modality: As the request gave it.

        Raises:
            Refusal: if the modality is missing.
            UnknownName: if no model for it is served.
        """
        names = ", ".join(self.classifiers)
        if modality is None:
            raise Refusal(f"{CULTURE_MODEL} must know how the vessel is built; give the modality: {names}")
        if modality not in self.classifiers:
            raise UnknownName(f"no model for {modality} images is served; there is one for {names}", "unknown_model")
        looks = self.detector if modality == Modality.SINGLE_STACK else None
        asked = [self.classifiers[modality], *([looks] if looks else [])]
        description = describe(image) if any(model.familiar for model in asked) else None
        confluence, *cells = (model.prepare(image, modality, description) for model in asked)
        return _Asked(modality, confluence, cells[0] if cells else None)

    def infer(self, prepared: Sequence[_Asked]) -> list[CulturePrediction]:
        """Answer for images that ``prepare`` gave, in their order."""
        confluence: dict[int, Prediction] = {}
        for modality, model in self.classifiers.items():
            rows = [row for row, item in enumerate(prepared) if item.modality == modality]
            if rows:
                answers = model.infer([prepared[row].confluence for row in rows])
                confluence |= dict(zip(rows, answers, strict=True))
        cells = self._cells(prepared)
        return [
            CulturePrediction(modality=item.modality.value, confluence=confluence[row], abnormal_cells=cells.get(row))
            for row, item in enumerate(prepared)
        ]

    def _cells(self, prepared: Sequence[_Asked]) -> dict[int, CellsPrediction]:
        rows = {row: item.cells for row, item in enumerate(prepared) if item.cells is not None}
        if self.detector is None or not rows:
            return {}
        return dict(zip(rows, self.detector.infer(list(rows.values())), strict=True))

    def _parts(self) -> list[Classifier | Detector]:
        return [*self.classifiers.values(), *([self.detector] if self.detector else [])]
