"""Percentiles and slopes."""

import math

import pytest

from benchmarks.stats import median, percentile, slope


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.25, 2.0), (0.875, 4.5), (1.0, 5.0)]
)
def test_percentile(share, expected):
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], share) == expected


def test_percentile__one_value():
    assert percentile([7.0], 0.99) == 7.0


def test_percentile__no_values():
    assert math.isnan(percentile([], 0.5))


def test_percentile__leaves_the_values_in_their_order():
    values = [3.0, 1.0, 2.0]

    percentile(values, 0.5)

    assert values == [3.0, 1.0, 2.0]


def test_median__of_two_rounds():
    assert median([10.0, 20.0]) == 15.0


def test_slope():
    assert slope([(0, 100.0), (10, 120.0), (20, 140.0)]) == pytest.approx(2.0)


def test_slope__noise_that_returns():
    assert slope([(0, 5.0), (1, 6.0), (2, 5.0)]) == pytest.approx(0.0)


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]])
def test_slope__x_does_not_vary(points):
    assert math.isnan(slope(points))
