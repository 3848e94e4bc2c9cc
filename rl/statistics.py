"""Aggregates over games: point estimates and stratified bootstrap intervals, numpy alone.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv 2108.13264),
whose library rliable gives the same numbers; a test compares the two.

Scores are normalised and come as f64 [..., N, G]: N runs (or episodes) of each of G games. Leading axes are resamples
and stay. A statistic reduces the last two axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]
Statistic = Callable[..., Scores]  # one or more arrays [..., N, G] -> [...]
CHUNK = 2**21  # values that are resampled at once: 16 MiB


@dataclass(frozen=True)
class Estimate:
    """A statistic of the scores with its bootstrap interval."""

    value: float
    low: float
    high: float


def checked(scores: ArrayLike) -> Scores:
    """Scores as f64 [N, G]; raises ValueError where they are not N scores of G games, all known."""
    found = np.asarray(scores, dtype=np.float64)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"scores: shape {found.shape}, must be [N, G], N runs of each of G games, both 1 or more")
    if not np.isfinite(found).all():
        raise ValueError(f"scores: {int((~np.isfinite(found)).sum())} are not finite; leave such games out")
    return found


def mean(scores: Scores) -> Scores:
    """Mean over all games of a game's mean: moved at will by one game that is far from the others."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def median(scores: Scores) -> Scores:
    """Median over games of a game's mean: half of the games may score nothing and it does not move."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def iqm(scores: Scores) -> Scores:
    """Interquartile mean: the mean of the middle half of all N x G scores, a quarter rounded down cut off each end."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: Scores, enough: float = 1.0) -> Scores:
    """How far scores stay below `enough` on average, what is above it counting as `enough`; lower is better."""
    return np.asarray(enough - np.minimum(scores, enough).mean(axis=(-2, -1)))


def geometric_mean(shares: Sequence[float]) -> float:
    """Of shares of a whole: halving one and doubling another leaves it as it is; 0 where one is not above 0."""
    return float(np.exp(np.mean(np.log(shares)))) if min(shares, default=0) > 0 else 0.0


def probability_of_improvement(ours: Scores, theirs: Scores) -> Scores:
    """Chance that a run of ours [..., N, G] beats one of theirs [..., M, G], ties half: the mean over games.

    The Mann-Whitney U statistic over N x M. One run of ours at a time: all pairs at once would take gigabytes.
    """
    twice = np.zeros(ours.shape[:-2])
    for run in range(ours.shape[-2]):
        one = ours[..., run, None, :]
        twice += np.count_nonzero(one > theirs, axis=(-2, -1)) + np.count_nonzero(one >= theirs, axis=(-2, -1))
    return np.asarray(twice / (2 * ours.shape[-2] * theirs.shape[-2] * theirs.shape[-1]))


def profile(scores: Scores, above: Sequence[float]) -> list[float]:
    """Performance profile: share of all N x G scores above each of these."""
    return [float((scores > level).mean()) for level in above]


STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {"median": median, "iqm": iqm, "mean": mean, "optimality_gap": optimality_gap}
)


def estimate(statistic: Statistic, *scores: ArrayLike, samples: int = 2000, seed: int = 0) -> Estimate:
    """A statistic of one or more score arrays [N, G] with its 95 % percentile interval.

    Stratified: every resample draws N of a game's own N scores, game by game; arrays are drawn independently. Equal
    arguments give equal intervals. Raises ValueError as `checked`, and where arrays are not of the same games.
    """
    given = [checked(one) for one in scores]
    if len({one.shape[1] for one in given}) > 1:
        raise ValueError(f"scores: of {', '.join(str(one.shape[1]) for one in given)} games, must be of the same games")
    drawn = np.concatenate([statistic(*some) for some in resamples(given, samples, seed)])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(statistic(*given)), float(low), float(high))


def resamples(scores: Sequence[Scores], samples: int, seed: int) -> Iterator[list[Scores]]:
    """Resampled arrays [S, N, G], some S of all `samples` at a time so that memory stays bounded."""
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK // max(one.size for one in scores))
    for start in range(0, samples, size):
        yield [_resampled(one, min(size, samples - start), rng) for one in scores]


def _resampled(scores: Scores, samples: int, rng: np.random.Generator) -> Scores:
    picks = rng.integers(scores.shape[0], size=(samples, *scores.shape))
    return np.take_along_axis(scores[None], picks, axis=1)
