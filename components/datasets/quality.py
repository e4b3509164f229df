"""Which images of a data version can be learnt from; the others are quarantined, each with a reason."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from components.culture import ConfluenceClass
from components.datasets.manifest import Box, ImageRecord
from components.datasets.measurement import Measured, Measurement, measured
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.events import Progress
from components.settings import DataSettings

# A measured fraction is rounded, and a box drawn by hand ends a pixel beyond the edge.
_CONFLUENCE_TOLERANCE = 0.005
_BOX_TOLERANCE = 1.0


class Finding(msgspec.Struct, frozen=True):
    """One quarantined image.

    Attributes:
        reason: A short machine-readable word: what ``ImageError`` names, or ``too_small``, ``blank``,
            ``overexposed``, ``underexposed``, ``blurred``, ``duplicate``, ``contradiction``, ``bad_box``.
        message: The sentence for people.
    """

    path: str
    sha256: str
    reason: str
    message: str


class Validation(msgspec.Struct, frozen=True):
    """The outcome of validating a data version.

    Attributes:
        version: The data version of the images that passed.
        accepted: Their number.
        quarantined: The others, ascending by path.
        warnings: Sentences about what is allowed but seldom meant.
    """

    version: str
    accepted: int
    quarantined: list[Finding]
    warnings: list[str]

    @property
    def reasons(self) -> dict[str, int]:
        """Quarantined images by reason, the commonest first."""
        return dict(Counter(finding.reason for finding in self.quarantined).most_common())


def validate(
    repository: DataRepository,
    version: str,
    settings: DataSettings,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Divide a data version into what can be learnt from and what cannot.

    Of several images with the same bytes one is kept: the first, by path, that has a class. If their
    classes differ, none is.

    Args:
        repository: Where the version lies; the accepted images become a version of their own in it.
        version: Its id.
        settings: The limits.
        cache: Local folder that remembers what was measured; None measures every image.
        progress: Told of each image.

    Raises:
        DataError: if no image passes; nothing has been written then.
        IntegrityError: if the store has lost or altered an image.
    """
    copies = _Copies(repository.records(version))
    quarantined: list[Finding] = []
    ungrouped = 0

    def accepted() -> Iterator[ImageRecord]:
        nonlocal ungrouped
        for item in measured(repository, repository.records(version), settings.max_pixels, cache):
            finding = _judge(item, settings, copies)
            if progress is not None:
                progress.advance()
            if finding is None:
                ungrouped += item.record.group is None and item.record.vessel is None
                yield item.record
            else:
                quarantined.append(finding)

    passed = _Counted(accepted())
    try:
        good = repository.add_version(passed)
    except DataError as error:
        if passed.count:
            raise
        raise DataError(_nothing_left(version, quarantined)) from error
    return Validation(good, passed.count, quarantined, _warnings(ungrouped, passed.count))


class _Counted:
    def __init__(self, records: Iterator[ImageRecord]) -> None:
        self._records = records
        self.count = 0

    def __iter__(self) -> Iterator[ImageRecord]:
        for record in self._records:
            self.count += 1
            yield record


class _Copies:
    """Which images have the same bytes, and what their labels say."""

    def __init__(self, records: Iterator[ImageRecord]) -> None:
        # Per digest the path that is kept and its class, in few bytes for each of very many images.
        self._kept: dict[bytes, tuple[str, ConfluenceClass | None]] = {}
        self._contradicted: dict[bytes, set[ConfluenceClass]] = {}
        for record in records:
            digest = bytes.fromhex(record.sha256)
            path, label = self._kept.setdefault(digest, (record.path, record.confluence_class))
            if record.confluence_class is None or path == record.path:
                continue
            if label is None:
                self._kept[digest] = record.path, record.confluence_class
            elif label != record.confluence_class:
                self._contradicted.setdefault(digest, {label}).add(record.confluence_class)

    def kept_instead_of(self, record: ImageRecord) -> str | None:
        """Give the path of the copy that is kept in place of this one, if another is."""
        path, _ = self._kept[bytes.fromhex(record.sha256)]
        return None if path == record.path else path

    def classes(self, record: ImageRecord) -> list[ConfluenceClass]:
        """Give the classes that the copies of this image contradict each other with, if they do."""
        return sorted(self._contradicted.get(bytes.fromhex(record.sha256), ()))


def _judge(item: Measured, settings: DataSettings, copies: _Copies) -> Finding | None:
    record, figures = item
    verdict = (
        _unreadable(figures)
        or _unfit_pixels(figures, settings)
        or _repeated(record, copies)
        or _contradictory(record)
        or _misplaced_box(record.boxes or (), figures)
    )
    return None if verdict is None else Finding(record.path, record.sha256, *verdict)


_Verdict = tuple[str, str] | None


def _unreadable(figures: Measurement) -> _Verdict:
    return None if figures.problem is None else (figures.problem, figures.message)


def _unfit_pixels(figures: Measurement, settings: DataSettings) -> _Verdict:
    if min(figures.width, figures.height) < settings.min_side:
        return "too_small", f"{figures.width} x {figures.height} pixels; each side needs {settings.min_side}"
    if figures.dark > settings.max_clipped:
        return "underexposed", f"{figures.dark:.0%} of the pixels are nearly black; at most {settings.max_clipped:.0%}"
    if figures.bright > settings.max_clipped:
        return "overexposed", f"{figures.bright:.0%} of the pixels are nearly white; at most {settings.max_clipped:.0%}"
    if figures.contrast < settings.min_contrast:
        return "blank", f"the grey levels deviate by {figures.contrast:.2f}; at least {settings.min_contrast:g}"
    if figures.sharpness < settings.min_sharpness:
        return "blurred", f"sharpness {figures.sharpness:.4f}; at least {settings.min_sharpness:g}"
    return None


def _repeated(record: ImageRecord, copies: _Copies) -> _Verdict:
    if classes := copies.classes(record):
        return "contradiction", f"the same image is labelled {' and '.join(str(int(label)) for label in classes)}"
    if other := copies.kept_instead_of(record):
        return "duplicate", f"the same bytes as {other}, which is kept"
    return None


def _contradictory(record: ImageRecord) -> _Verdict:
    label, confluence = record.confluence_class, record.confluence
    if label is None or confluence is None:
        return None
    lower, upper = label.bounds
    if lower - _CONFLUENCE_TOLERANCE <= confluence <= upper + _CONFLUENCE_TOLERANCE:
        return None
    return (
        "contradiction",
        f"labelled {int(label)} ({lower:.0%} to {upper:.0%}), but its confluence is {confluence:.1%}",
    )


def _misplaced_box(boxes: tuple[Box, ...], figures: Measurement) -> _Verdict:
    for box in boxes:
        where = f"box {box.x1:g},{box.y1:g},{box.x2:g},{box.y2:g} ({box.label})"
        if box.x1 >= box.x2 or box.y1 >= box.y2:
            return "bad_box", f"{where} has no area; its corners are upper left, then lower right"
        inside = min(box.x1, box.y1) >= -_BOX_TOLERANCE
        if not inside or box.x2 > figures.width + _BOX_TOLERANCE or box.y2 > figures.height + _BOX_TOLERANCE:
            return "bad_box", f"{where} leaves the image of {figures.width} x {figures.height} pixels"
    return None


def _warnings(ungrouped: int, accepted: int) -> list[str]:
    if not ungrouped:
        return []
    return [
        f"{ungrouped} of {accepted} images name no vessel and no group, so that images of one vessel may be divided "
        "between training and test; give a column vessel or group"
    ]


def _nothing_left(version: str, quarantined: list[Finding]) -> str:
    reasons = Counter(finding.reason for finding in quarantined).most_common()
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons)
    first = quarantined[0]
    return (
        f"data version {version[:12]}: no image can be used ({counts}; first {first.path}: {first.message}); "
        "mend the images or the limits in the settings' section data"
    )
