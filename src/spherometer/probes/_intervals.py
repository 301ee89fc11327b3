"""Intervals of accuracies."""

from __future__ import annotations

import math

from spherometer import _checks
from spherometer.errors import InputError

_Z95 = 1.959963984540054


def wilson_interval(accuracy: float, num: int) -> tuple[float, float]:
    r"""95 % score interval of a proportion.

    (p + z^2/2n \pm z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with p the proportion, n the number of trials.

    Args:
        accuracy: proportion of right answers, in [0, 1]. A mean over several draws of the labels is allowed;
            the draws share their test images, so ``num`` stays the number of images.
        num: number of images tested.

    Returns:
        Lower and upper end, in [0, 1]; never empty, also for 0 and 1.

    Raises:
        InputError: ``accuracy`` is not in [0, 1] or ``num`` < 1.

    Source: Wilson 1927.

    Example:
        >>> [round(end, 3) for end in wilson_interval(0.9, 100)]
        [0.826, 0.945]
    """
    _checks.whole("wilson_interval", "num", num)
    if not 0 <= accuracy <= 1:
        _checks.refuse(
            InputError,
            "wilson_interval",
            "accuracy",
            "lie in [0, 1]",
            "it is a proportion",
            f"{accuracy:g}",
            "Divide the number of right answers by the number of trials",
        )
    z2 = _Z95 * _Z95 / num
    centre = accuracy + z2 / 2
    half = _Z95 * math.sqrt(accuracy * (1 - accuracy) / num + z2 / (4 * num))
    return max(0.0, (centre - half) / (1 + z2)), min(1.0, (centre + half) / (1 + z2))
