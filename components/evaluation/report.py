"""The report of a model version: one HTML file that needs no scripts and no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jinja2
from markupsafe import Markup

from components.culture import CLASSES, ConfluenceClass
from components.evaluation import plots
from components.evaluation.baseline import verdict as baseline_verdict
from components.evaluation.evidence import Answer, Evidence
from components.evaluation.metrics import Figure
from components.evaluation.verdict import Verdict, bound_of, figure_of

TEMPLATE = "report.html.j2"
# With fewer groups than this, the bootstrap's intervals are rough.
FEW_GROUPS = 10


@dataclass(frozen=True)
class _Line:
    """How one figure is told: its label, whether it is a share, and what it means."""

    name: str
    label: str
    meaning: str
    share: bool = True


_LINES = (
    _Line("accuracy", "Accuracy", "answers that name the right class"),
    _Line("within_one_class", "Within one class", "answers that are right or one class off"),
    _Line("balanced_accuracy", "Balanced accuracy", "mean over the classes of the share found"),
    _Line(
        "quadratic_kappa",
        "Quadratic kappa",
        "agreement beyond chance; far misses weigh more; 1 is perfect",
        share=False,
    ),
    _Line(
        "mean_class_error",
        "Mean class error",
        "how many classes an answer is off, on average; 0 is perfect",
        share=False,
    ),
    _Line("missed_overgrowth", "Missed overgrowth", "overgrown images called seeding or media change; 0 is perfect"),
    _Line("roc_auc_micro", "ROC AUC", "one class against the rest, micro-averaged; 1 is perfect", share=False),
    _Line("pr_auc_micro", "PR AUC", "average precision, micro-averaged; 1 is perfect", share=False),
)
_CLASS_LINES = tuple(
    _Line(
        f"recall_{int(each)}",
        f"{int(each)} {each.decision}",
        f"{each.bounds[0]:.0%} to {each.bounds[1]:.0%} confluent".replace("%", "\N{NARROW NO-BREAK SPACE}%"),
    )
    for each in CLASSES
)
_TILES = ("accuracy", "within_one_class", "missed_overgrowth", "roc_auc_micro")


def render_report(
    evidence: Evidence,
    *,
    verdict: Verdict | None = None,
    version: str | None = None,
    digest: str | None = None,
    champion: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Render the report of a model version as HTML.

    Args:
        evidence: From the version's bundle.
        verdict: The gate's; None where it has not judged yet.
        version: The registered version.
        digest: The model's digest, that of its ``bundle.json``.
        champion: The version that the model was held against.
        notes: Sentences shown below the verdict, such as who promoted a refused model, and why.
    """
    right = sum(answer.truth == answer.predicted for answer in evidence.answers)
    return (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            e=evidence,
            verdict=verdict,
            version=version,
            digest_of_model=digest,
            champion=champion,
            notes=notes,
            right=right,
            overgrown=_overgrown(evidence.answers),
            answered=_answered(evidence),
            classes=CLASSES,
            lines=_LINES,
            class_lines=_CLASS_LINES,
            tiles=[line for line in _LINES if line.name in _TILES],
            slices=by_field(evidence.slices),
            pictures=[(evidence.answers[picture.answer], picture.uri) for picture in evidence.sheet],
            baseline_verdict=baseline_verdict(evidence.baselines),
            few_groups=evidence.measured.groups < FEW_GROUPS,
            plots=_plots(evidence),
            environment={**evidence.training_environment, **evidence.environment},
        )
    )


def write_report(path: Path, evidence: Evidence, **about: Any) -> None:
    """Write the report into a file; the keywords are those of ``render_report``."""
    path.write_text(render_report(evidence, **about), encoding="utf-8")


def _plots(evidence: Evidence) -> dict[str, Markup]:
    drawn = {
        "roc": plots.roc_plot(evidence.roc),
        "precision_recall": plots.precision_recall_plot(evidence.precision_recall),
        "reliability": plots.reliability_plot(evidence.bins),
    }
    if evidence.history:
        drawn["loss"] = plots.loss_plot(evidence.history, evidence.best_epoch)
        drawn["accuracy"] = plots.accuracy_plot(evidence.history, evidence.best_epoch)
    if evidence.search and any(trial.value is not None for trial in evidence.search.trials):
        drawn["search"] = plots.search_plot(evidence.search, evidence.model.learning_rate)
    return drawn


def _overgrown(answers: Iterable[Answer]) -> dict[str, int]:
    named = [answer.predicted for answer in answers if answer.truth == ConfluenceClass.OVERGROWN]
    return {"n": len(named), "missed": sum(each <= ConfluenceClass.MEDIA_CHANGE for each in named)}


def _answered(evidence: Evidence) -> dict[str, int]:
    """Count the test images on which the model does not abstain, and its right answers among them."""
    given = [each for each in evidence.answers if max(each.probabilities) >= evidence.calibration.min_confidence]
    return {"n": len(given), "right": sum(each.truth == each.predicted for each in given)}


class OfField(Protocol):
    """A slice of the test images, whatever its figures."""

    @property
    def field(self) -> str:
        """What its images share a value of."""


Of = TypeVar("Of", bound=OfField)


def by_field(slices: Iterable[Of]) -> dict[str, list[Of]]:
    """Sort slices by their field."""
    fields: dict[str, list[Of]] = {}
    for each in slices:
        fields.setdefault(each.field, []).append(each)
    return fields


@cache
def page_environment(*packages: str) -> jinja2.Environment:
    """Give what pages are rendered with: templates and styles from this package, and from others before it."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _resource(name, (*packages, "components.evaluation"))),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "figure": _figure, "interval": _interval}
    environment.filters |= {
        "figure_of": lambda rule: _set(figure_of(rule)),
        "bound_of": lambda rule: _set(bound_of(rule)),
    }
    return environment


def _resource(name: str, packages: Sequence[str]) -> str | None:
    found = (files(package).joinpath(name) for package in packages)
    return next((file.read_text("utf-8") for file in found if file.is_file()), None)


def _set(figure: str) -> str:
    """Set a figure with its unit as type is set: a true minus sign, and no break before the unit."""
    return figure.replace("-", "\N{MINUS SIGN}").replace(" ", "\N{NARROW NO-BREAK SPACE}")


def _percent(share: float | None, signed: bool = False) -> str:
    if share is None:
        return "–"
    return f"{100 * share:{'+' if signed else ''}.1f}\N{NARROW NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def _figure(value: float | None, share: bool = False) -> str:
    """Format a figure; shares as per cent."""
    if value is None:
        return "–"
    return _percent(value) if share else f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def _interval(figure: Figure, share: bool = False) -> str:
    if figure.low is None or figure.high is None:
        return "–"
    if share:
        return f"{100 * figure.low:.1f}–{_percent(figure.high)}"
    return f"{_figure(figure.low)} to {_figure(figure.high)}"
