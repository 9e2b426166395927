"""The learning curve: error rate against hours of training speech, as a power law with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anadil.evaluation.intervals import student_quantile

MIN_SIZES = 3
"""A line through two points says nothing about its own uncertainty."""


@dataclass(frozen=True)
class PowerLaw:
    """rate = scale x hours ** -exponent, fitted by least squares of log rate on log hours.

    Error rates of speech recognisers follow such a law over orders of magnitude of data (Hestness et al. 2017,
    arXiv:1712.00409). It has no floor, so far from the measured hours it is too hopeful.
    """

    scale: float  # rate at one hour, a fraction
    exponent: float  # 0.5: four times the speech, half the errors
    points: tuple[tuple[float, float], ...]  # (hours, rate) of each training
    spread: float  # standard deviation of log rate around the line

    def rate(self, hours: float) -> float:
        return float(self.scale * hours**-self.exponent)

    def interval(self, hours: float, level: float = 0.95) -> tuple[float, float]:
        """Interval (low, high) of one more training's rate with so many hours: Student's t with n - 2 degrees of freedom.

        It holds what differs between the trainings (seed, choice of the subset) and the uncertainty of the line; the test
        set is the same in all, so its own sampling error is not in it.
        """
        x = np.log([point for point, _ in self.points])
        n, centre = len(x), x.mean()
        distance = (math.log(hours) - centre) ** 2 / float(((x - centre) ** 2).sum())
        half = student_quantile(0.5 + level / 2, n - 2) * self.spread * math.sqrt(1 + 1 / n + distance)
        return self.rate(hours) * math.exp(-half), min(1.0, self.rate(hours) * math.exp(half))

    def exponent_interval(self, level: float = 0.95) -> tuple[float, float]:
        x = np.log([point for point, _ in self.points])
        error = self.spread / math.sqrt(float(((x - x.mean()) ** 2).sum()))
        half = student_quantile(0.5 + level / 2, len(x) - 2) * error
        return self.exponent - half, self.exponent + half

    @property
    def falls(self) -> bool:
        """Whether more speech is sure to help: the 95 % interval of the exponent is above 0."""
        return self.exponent_interval()[0] > 0


def fit_power_law(points: Sequence[tuple[float, float]]) -> PowerLaw | None:
    """Fit (hours, rate) of several trainings; None if there are fewer than three different hours or a rate is 0.

    Raises ValueError for hours that are not positive, or rates that are negative or not finite.
    """
    if any(not hours > 0 or not 0 <= rate < math.inf for hours, rate in points):
        raise ValueError(f"hours must be positive and rates finite and not negative: {list(points)}")
    if len({hours for hours, _ in points}) < MIN_SIZES or any(rate == 0 for _, rate in points):
        return None
    x, y = (np.log([point[column] for point in points]) for column in (0, 1))
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    residuals = y - y.mean() - slope * (x - x.mean())
    spread = math.sqrt(float((residuals**2).sum()) / (len(x) - 2))
    return PowerLaw(math.exp(y.mean() - slope * x.mean()), -slope, tuple(points), spread)
