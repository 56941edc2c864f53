"""Numbers on a command line: argparse types that refuse what is out of range, before any work.

Each is the ``type=`` of an argument. The error names the option, what was expected, and what was given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import inf
from typing import TypeVar

_Number = TypeVar("_Number", int, float)


def _ranged(
    read: Callable[[str], _Number], accepts: Callable[[_Number], bool], expected: str
) -> Callable[[str], _Number]:
    def parse(text: str) -> _Number:
        try:
            number = read(text)
        except ValueError:
            number = None
        if number is None or not accepts(number):  # NaN is in no range
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return number

    return parse


#: 1, 2, 3 ...
positive = _ranged(int, lambda n: n >= 1, "an integer of at least 1")
#: 0, 1, 2 ...
natural = _ranged(int, lambda n: n >= 0, "an integer of at least 0")
#: The lengths of the paper's filters.
filter_size = _ranged(int, lambda n: 1 <= n <= 7, "an integer from 1 to 7")
#: Such as a learning rate.
above_zero = _ranged(float, lambda x: 0 < x < inf, "a number above 0")
#: Such as a weight decay.
not_negative = _ranged(float, lambda x: 0 <= x < inf, "a number of at least 0")
#: From none to all.
share = _ranged(float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
#: Some or all.
part = _ranged(float, lambda x: 0 < x <= 1, "a number above 0, at most 1")
#: Such as the decay of an average, which 1 would never change.
below_one = _ranged(float, lambda x: 0 <= x < 1, "a number of at least 0 and below 1")
