"""Does a new batch look different from the images before it? See ``components.screening.drift.verdict``."""

from components.screening.drift.page import write_page
from components.screening.drift.verdict import DriftTest, DriftVerdict, Shift, judge_drift

__all__ = ["DriftTest", "DriftVerdict", "Shift", "judge_drift", "write_page"]
