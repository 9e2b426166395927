"""The power law of error rate against hours."""

from __future__ import annotations

import numpy as np
import pytest

from anadil.evaluation.learning_curve import fit_power_law

HOURS = (0.4, 1.0, 2.0, 4.0)


def test_an_exact_law_is_found() -> None:
    law = fit_power_law([(hours, 0.4 * hours**-0.5) for hours in HOURS])
    assert law is not None
    assert law.scale == pytest.approx(0.4) and law.exponent == pytest.approx(0.5)
    assert law.rate(16) == pytest.approx(0.1)
    assert law.interval(16) == (pytest.approx(0.1), pytest.approx(0.1))
    assert law.falls


def test_rates_that_do_not_fall_are_not_said_to() -> None:
    law = fit_power_law([(0.5, 0.30), (1.0, 0.26), (2.0, 0.31), (4.0, 0.28)])
    assert law is not None and not law.falls


@pytest.mark.parametrize(
    "points",
    [[], [(1, 0.3), (2, 0.2)], [(1, 0.3), (1, 0.31), (2, 0.2)], [(1, 0.3), (2, 0.2), (4, 0.0)]],
    ids=["none", "two", "two sizes", "no errors"],
)
def test_too_little_gives_no_law(points: list[tuple[float, float]]) -> None:
    assert fit_power_law(points) is None


@pytest.mark.parametrize("point", [(0.0, 0.2), (-1.0, 0.2), (1.0, -0.1), (1.0, float("nan")), (float("nan"), 0.1)])
def test_impossible_points_are_refused(point: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        fit_power_law([*((hours, 0.3) for hours in HOURS), point])


def test_the_interval_holds_another_training_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        points = [(hours, 0.4 * hours**-0.5 * np.exp(rng.normal(0, 0.05))) for hours in HOURS for _ in range(2)]
        law = fit_power_law(points)
        assert law is not None
        low, high = law.interval(8)
        held += low <= 0.4 * 8**-0.5 * np.exp(rng.normal(0, 0.05)) <= high
    assert 0.92 <= held / 400 <= 0.98
