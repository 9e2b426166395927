"""How far the error rate of a test set may be from that over all such speakers: a model of speakers who differ."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_DEVIATIONS = np.concatenate(  # of speakers, as a share of the deviation of their measured rates
    [[0.0], np.geomspace(0.005, 0.1, 12)[:-1], np.linspace(0.1, 2.0, 40)[:-1], np.geomspace(2.0, 60.0, 25)]
)
_LEAST_NOISE = 1e-6  # of the speakers' variance: keeps the model defined where a speaker's utterances all have one rate
_LEAST_VARIANCE = 1e-30
_MOST_DEVIATIONS, _HALVINGS = 8.0, 60


@dataclass(frozen=True)
class SpeakerModel:
    """The variance of a ratio of sums over speakers, as a distribution: what the data leave open is in the weights.

    Speaker g, with n_g of the N reference units, has the rate r_g = m + d_g + e_g. The variance of d_g, t^2, is how much
    speakers differ; that of e_g is w / n_g, where w is known from how much the utterances of a speaker differ. The rate over the
    test set is the sum of n_g / N * r_g, whose variance is the sum of (n_g / N)^2 * (t^2 + w / n_g). What t is, five speakers
    hardly say, above all if one of them has half of the words. So the interval is averaged over t: its likelihood given the
    differences between the r_g (restricted likelihood; Patterson and Thompson 1971), times a prior that is flat where t is below
    the noise of a speaker's rate and 1 / t above (Gelman 2006, "Prior distributions for variance parameters in hierarchical
    models", on why a bounded density at 0). With equally long, long recordings this is Student's interval with G - 1 degrees of
    freedom.
    """

    rate: float
    variances: np.ndarray  # (values of t,), of the rate
    weights: np.ndarray  # (values of t,), with sum 1

    def half_width(self, level: float) -> float:
        """The distance from the rate within which the true one is with this probability."""
        low, high = 0.0, _MOST_DEVIATIONS * float(np.sqrt(self.variances.max()))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            inside = 2 * self.probability_below(self.rate + middle) - 1
            low, high = (middle, high) if inside < level else (low, middle)
        return high

    def interval(self, level: float, of_rate: bool) -> tuple[float, float]:
        """(low, high). `of_rate`: of an error rate, whose variance grows with it, as in Wilson 1927; else of a difference.

        The ends of a rate x solve (x - rate)^2 = half_width^2 * x / rate, so that the upper arm is the longer one.
        """
        half = self.half_width(level)
        if not of_rate or self.rate <= 0:
            return self.rate - half, self.rate + half
        shift = half**2 / self.rate / 2
        arm = math.sqrt(2 * shift * self.rate + shift**2)
        return self.rate + shift - arm, self.rate + shift + arm

    def probability_below(self, value: float) -> float:
        """The probability that the true rate is below `value`."""
        points, probabilities = _normal()
        distance = (value - self.rate) / np.sqrt(np.maximum(self.variances, _LEAST_VARIANCE))
        return float(self.weights @ np.interp(distance, points, probabilities))


@functools.cache
def _normal() -> tuple[np.ndarray, np.ndarray]:
    """Points and the standard normal distribution function there; lines between them are off by less than 2e-7."""
    points = np.linspace(-_MOST_DEVIATIONS, _MOST_DEVIATIONS, 8001)
    return points, np.array([NormalDist().cdf(float(point)) for point in points])


def speaker_model(errors: np.ndarray, reference: np.ndarray, noise: float) -> SpeakerModel:
    """The model of sums over each speaker, both (speakers,) with at least 2, references above 0.

    `noise`: variance of the errors of a speaker's utterances, per reference unit; see `noise_within`.
    """
    n_all = float(reference.sum())
    shares, rates, rate = reference / n_all, errors / reference, float(errors.sum()) / n_all
    spread = float(rates.var(ddof=1))
    noise = max(noise, _LEAST_NOISE * spread * n_all / len(rates))
    if noise <= 0:  # all speakers and all utterances have the same rate
        return SpeakerModel(rate, np.zeros(1), np.ones(1))
    scale = math.sqrt(spread + noise * len(rates) / n_all)
    squares = (scale * _DEVIATIONS) ** 2  # t^2, (values,)
    variances = squares[:, None] + noise / reference  # of each speaker's rate, (values, speakers)
    precisions = 1 / variances
    means = precisions @ rates / precisions.sum(axis=1)
    misfit = (precisions * (rates - means[:, None]) ** 2).sum(axis=1)
    log_likelihood = -(np.log(variances).sum(axis=1) + np.log(precisions.sum(axis=1)) + misfit) / 2
    log_prior = -np.log(variances @ shares) / 2
    found = log_likelihood + log_prior
    weights = np.exp(found - found.max()) * np.gradient(_DEVIATIONS)
    return SpeakerModel(rate, variances @ shares**2, weights / weights.sum())


def noise_within(errors: np.ndarray, reference: np.ndarray, speakers: np.ndarray) -> float | None:
    """Variance of the errors of utterances around their speaker's rate, per reference unit, over all speakers.

    All three (utterances,); `speakers` are numbers from 0. None if no speaker has two utterances with reference text.
    """
    sums = np.bincount(speakers, weights=reference)
    rates = np.bincount(speakers, weights=errors) / np.where(sums > 0, sums, 1.0)
    n = np.bincount(speakers).astype(float)
    squares = np.bincount(speakers, weights=(errors - rates[speakers] * reference) ** 2)
    several = (n > 1) & (sums > 0)
    if not several.any():
        return None
    return float((squares[several] * n[several] / (n[several] - 1)).sum() / sums[several].sum())
