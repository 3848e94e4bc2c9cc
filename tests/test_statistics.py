"""Statistics over games: equal to plain loops, and to rliable on its own examples where it is installed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.statistics import (
    STATISTICS,
    estimate,
    geometric_mean,
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    profile,
    resamples,
)

# Of rliable's own tests (tests/library_test.py, tests/rliable/metrics_test.py).
FIVE_OF_16 = np.arange(80.0).reshape(5, 16)
SMALL, OTHER = np.array([[1.0, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1.0, 1], [2, 2], [3, 3]])


def plain_mean(values):
    return math.fsum(values) / len(values)


def plain_median(values):
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def plain(name, rows):
    """A statistic of a list of runs, each a list of its games' scores."""
    flat, games = [score for row in rows for score in row], list(zip(*rows, strict=True))
    if name == "mean":
        return plain_mean([plain_mean(game) for game in games])
    if name == "median":
        return plain_median([plain_mean(game) for game in games])
    if name == "iqm":
        cut = len(flat) // 4
        return plain_mean(sorted(flat)[cut : len(flat) - cut])
    return 1 - plain_mean([min(score, 1.0) for score in flat])


def plain_chance(ours, theirs):
    """Wins over pairs, ties half, game by game."""
    chances = []
    for mine, yours in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
        points = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(mine, yours)]
        chances.append(plain_mean(points))
    return plain_mean(chances)


def tables(values=None, rows=(1, 6), games=(1, 5)):
    """Tables of scores as lists of rows; `rows` and `games`: fewest and most."""
    shapes = st.tuples(st.integers(*rows), st.integers(*games))
    values = st.floats(-3, 3) if values is None else values
    return shapes.flatmap(
        lambda shape: st.lists(
            st.lists(values, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
        )
    )


@pytest.mark.parametrize("name", STATISTICS)
@given(rows=tables())
def test_a_statistic_equals_plain_loops(name, rows):
    assert float(STATISTICS[name](np.array(rows))) == pytest.approx(plain(name, rows), abs=1e-9)


@given(tables(st.integers(0, 3), games=(3, 3)), tables(st.integers(0, 3), games=(3, 3)))
def test_the_chance_of_improvement_equals_plain_loops(ours, theirs):
    found = float(probability_of_improvement(np.array(ours, float), np.array(theirs, float)))
    assert found == pytest.approx(plain_chance(ours, theirs))
    back = float(probability_of_improvement(np.array(theirs, float), np.array(ours, float)))
    assert found + back == pytest.approx(1.0)


def test_what_one_game_can_do_to_each_statistic():
    games = np.array([[0.4, 0.5, 0.6, 0.7, 100.0]] * 4)
    assert (float(mean(games)), float(median(games))) == (pytest.approx(20.44), pytest.approx(0.6))
    assert float(iqm(games)) == pytest.approx(0.6), "the outlier is cut off"
    assert float(optimality_gap(games)) == pytest.approx((0.6 + 0.5 + 0.4 + 0.3 + 0) / 5), "it counts as enough, once"
    assert float(optimality_gap(games, enough=0.5)) == pytest.approx(0.02)


@pytest.mark.parametrize("name", STATISTICS)
def test_leading_axes_are_resamples_and_stay(name):
    scores = np.random.default_rng(2).normal(size=(7, 4, 3))
    found = STATISTICS[name](scores)
    assert found.shape == (7,)
    assert found == pytest.approx([float(STATISTICS[name](one)) for one in scores])


def test_a_mean_of_shares_is_geometric_and_0_where_one_is_lost():
    assert geometric_mean([0.25, 2.0, 2.0]) == pytest.approx(1)
    assert geometric_mean([0.5, 0.0]) == 0 and geometric_mean([0.5, -0.1]) == 0 and geometric_mean([]) == 0


def test_a_profile_is_the_share_of_scores_above_each_level():
    assert profile(SMALL, [0.0, 1.0, 1.5, 2.0]) == [1.0, 0.5, 0.5, 0.0]


def test_a_resample_draws_from_a_games_own_scores_alone():
    scores = np.array([[10.0, 20.0, 30.0], [11.0, 21.0, 31.0]])
    (drawn,) = next(resamples([scores], 500, seed=0))
    assert drawn.shape == (500, 2, 3)
    for game in range(3):
        assert set(np.unique(drawn[..., game])) == set(scores[:, game])
    # Games are drawn apart from each other: rows of two games do not stay together.
    assert not np.array_equal(drawn[..., 0] - 10, drawn[..., 1] - 20)


def test_memory_is_bounded_and_the_number_of_resamples_kept():
    sizes = [part.shape for (part,) in resamples([np.zeros((500, 60))], 150, seed=0)]
    assert [size[1:] for size in sizes] == [(500, 60)] * len(sizes)
    assert sum(size[0] for size in sizes) == 150
    assert max(math.prod(size) for size in sizes) <= 2**21


def test_the_interval_equals_all_resamples_of_a_small_table():
    rows = np.array([[0.0, 4.0], [1.0, 9.0], [5.0, 2.0]])
    games = [list(itertools.product(rows[:, game], repeat=3)) for game in range(2)]
    every = [(np.mean(first) + np.mean(second)) / 2 for first in games[0] for second in games[1]]
    found = estimate(mean, rows, samples=40_000)
    assert found.value == pytest.approx(3.5)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(every, [2.5, 97.5])), abs=0.17)


@pytest.mark.parametrize("name", STATISTICS)
def test_equal_arguments_give_equal_intervals_and_other_seeds_others(name):
    scores = np.random.default_rng(0).normal(size=(9, 4))
    first, again, other = (estimate(STATISTICS[name], scores, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_equal_scores_leave_no_interval():
    found = estimate(iqm, np.full((4, 3), 2.0))
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


@settings(max_examples=20)
@given(tables(rows=(2, 5)))
def test_an_interval_rises(rows):
    found = estimate(mean, rows, samples=50)
    assert found.low <= found.high


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[1.0, 2.0], [3.0, math.nan]], r"^scores: 1 are not finite; leave such games out$"),
        ([1.0, 2.0], r"^scores: shape \(2,\), must be \[N, G\], N runs of each of G games, both 1 or more$"),
        (np.zeros((0, 3)), r"^scores: shape \(0, 3\), must be \[N, G\]"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        estimate(mean, scores)


def test_tables_of_other_games_are_not_compared():
    with pytest.raises(ValueError, match=r"^scores: of 2, 3 games, must be of the same games$"):
        estimate(probability_of_improvement, np.zeros((4, 2)), np.zeros((4, 3)))


# Against rliable


def rliable():
    pytest.importorskip("rliable", reason="rliable is not installed; pip install -e '.[rliable]' to compare with it")
    from rliable import library, metrics

    np.random.seed(0)  # its bootstrap draws from numpy's global generator
    own = {"mean": metrics.aggregate_mean, "median": metrics.aggregate_median, "iqm": metrics.aggregate_iqm}
    own["optimality_gap"] = metrics.aggregate_optimality_gap
    return library, metrics, own


@pytest.mark.parametrize("scores", [FIVE_OF_16, FIVE_OF_16[::-1], SMALL, OTHER], ids=["x", "y", "small", "other"])
def test_rliable_has_the_same_estimates_of_its_examples(scores):
    _, _, theirs = rliable()
    for name, statistic in STATISTICS.items():
        assert float(statistic(scores)) == pytest.approx(theirs[name](scores), abs=1e-12)


def test_rliable_has_the_same_estimates_of_many_tables():
    _, metrics, theirs = rliable()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        ours, others = (rng.integers(-2, 9, size=(rows, 4)) / 3 for rows in (rng.integers(1, 9), rng.integers(1, 9)))
        for name, statistic in STATISTICS.items():
            assert float(statistic(ours)) == pytest.approx(theirs[name](ours), abs=1e-12)
        chance = metrics.probability_of_improvement(ours, others)
        assert float(probability_of_improvement(ours, others)) == pytest.approx(chance, abs=1e-12)


def test_rliable_has_the_same_intervals_of_its_example():
    library, _, theirs = rliable()
    _, intervals = library.get_interval_estimates(
        {"x": FIVE_OF_16}, lambda scores: np.array([theirs[name](scores) for name in STATISTICS]), reps=4000
    )
    for (low, high), statistic in zip(intervals["x"].T, STATISTICS.values(), strict=True):
        found = estimate(statistic, FIVE_OF_16, samples=20_000)
        width = found.high - found.low
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * width)


def test_rliable_has_the_same_chance_and_interval_of_its_example():
    library, metrics, _ = rliable()
    pair = [FIVE_OF_16, np.flip(FIVE_OF_16, axis=0)[:4]]
    values, intervals = library.get_interval_estimates({"x,y": pair}, metrics.probability_of_improvement, reps=200)
    found = estimate(probability_of_improvement, *pair)
    assert found.value == pytest.approx(float(values["x,y"]), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(intervals["x,y"].ravel()), abs=0.05)


def test_rliable_has_the_same_profile():
    library, _, _ = rliable()
    levels = [0.0, 0.25, 20.0, 50.0, 79.0]
    profiles, _ = library.create_performance_profile({"x": FIVE_OF_16}, levels, reps=10)
    assert profile(FIVE_OF_16, levels) == pytest.approx(list(profiles["x"]))
