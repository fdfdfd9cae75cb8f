"""Percentiles and slopes of small samples."""

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Interpolate between the two nearest ranks; NaN for no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: Sequence[float]) -> float:
    """Return the middle value; NaN for no values."""
    return percentile(values, 0.5)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Fit a line by least squares and return what y gains per x; NaN when x does not vary."""
    if not points:
        return float("nan")
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return float("nan")
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
