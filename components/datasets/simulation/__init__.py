"""Simulated cultures: phase-contrast-like images whose confluence is known exactly."""

from components.datasets.simulation.dataset import SimulationSummary, simulate
from components.datasets.simulation.growth import Growth
from components.datasets.simulation.habit import Habit
from components.datasets.simulation.microscope import Microscope
from components.datasets.simulation.picture import Picture, render

__all__ = ["Growth", "Habit", "Microscope", "Picture", "SimulationSummary", "render", "simulate"]
