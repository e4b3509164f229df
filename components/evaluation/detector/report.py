"""The report of a detector: one HTML file that needs no scripts and no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from components.evaluation.detection import PAPER_SCORE
from components.evaluation.detector import plots
from components.evaluation.detector.evidence import DetectorEvidence
from components.evaluation.report import FEW_GROUPS, by_field, page_environment
from components.evaluation.verdict import Verdict

TEMPLATE = "detector.html.j2"


class _Line(NamedTuple):
    """How one figure is told: its name, its label, whether it is a share, and what it means."""

    name: str
    label: str
    share: bool
    meaning: str


_LINES = (
    _Line("recall", "Recall", True, "abnormal cells that a box counts for; 1 is perfect"),
    _Line("false_discovery_rate", "False discovery rate", True, "given boxes that count for no cell; 0 is perfect"),
    _Line("average_precision", "Average precision", False, "area under precision over recall; 1 is perfect"),
    _Line("f1", "F1", False, "balance of recall and precision; 1 is perfect"),
    _Line("froc", "FROC", False, "mean recall at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false boxes an image; 1 is perfect"),
    _Line("false_per_image", "False boxes an image", False, "0 is perfect"),
    _Line("clean_images", "Clean images left alone", True, "images without an abnormal cell in which none is found"),
)
_PAPER_LINES = (
    _Line("hit_rate", "Hit rate", True, "images with an abnormal cell whose best box is on one"),
    _Line("hit_false_discovery_rate", "False discovery rate", True, "of the best boxes, those that are on no cell"),
)
_TILES = ("recall", "false_discovery_rate", "average_precision", "froc")


def render_detector_report(
    evidence: DetectorEvidence,
    *,
    verdict: Verdict | None = None,
    version: str | None = None,
    digest: str | None = None,
    champion: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Render the report of a detector as HTML.

    Args:
        evidence: From the version's bundle.
        verdict: The gate's; None where it has not judged yet.
        version: The registered version.
        digest: The model's digest, that of its ``bundle.json``.
        champion: The version that the model was held against.
        notes: Sentences shown below the verdict, such as who promoted a refused model, and why.
    """
    answers = evidence.answers
    return (
        page_environment("components.evaluation.detector")
        .get_template(TEMPLATE)
        .render(
            e=evidence,
            verdict=verdict,
            version=version,
            digest_of_model=digest,
            champion=champion,
            notes=notes,
            cells=sum(each.cells for each in answers),
            found=sum(each.right for each in answers),
            wrong=sum(each.false for each in answers),
            clean=[each for each in answers if not each.cells],
            lines=_LINES,
            paper_lines=_PAPER_LINES,
            paper_score=PAPER_SCORE,
            tiles=[line for line in _LINES if line.name in _TILES],
            slices=by_field(evidence.slices),
            pictures=[(answers[picture.answer], picture) for picture in evidence.sheet],
            few_groups=evidence.measured.groups < FEW_GROUPS,
            plots=_plots(evidence),
            environment={**evidence.training_environment, **evidence.environment},
        )
    )


def write_detector_report(path: Path, evidence: DetectorEvidence, **about: Any) -> None:
    """Write the report into a file; the keywords are those of ``render_detector_report``."""
    path.write_text(render_detector_report(evidence, **about), encoding="utf-8")


def _plots(evidence: DetectorEvidence) -> dict[str, Markup]:
    value = evidence.measured.value
    drawn = {
        "precision_recall": plots.precision_recall_plot(
            evidence.precision_recall, value("recall"), value("false_discovery_rate")
        ),
        "froc": plots.froc_plot(evidence.froc, value("recall"), value("false_per_image")),
    }
    if evidence.history:
        drawn["loss"] = plots.loss_plot(evidence.history, evidence.best_epoch)
        drawn["progress"] = plots.progress_plot(evidence.history, evidence.best_epoch)
    return drawn
