"""What random items outside an answer show about right items that resemble no marked item.

The scores of a model tell nothing about such items: a second group, unlike the first, may score lower than anything
else. Only a uniform sample of all that does not match bounds their number. If none of n sampled items is right, the
share of right items is below 1 - .05^(1 / n) with 95% confidence, about 3 / n (Clopper and Pearson, Biometrika 1934;
Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 1983). Lewis, Yang and Frieder
(Certifying one-phase technology-assisted reviews, CIKM 2021) apply this to recall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CONFIDENCE = 0.95
"""The confidence of the bound.

A claim that needs both this bound and the lower end of a 90% interval from the scores holds 9 times in 10.
"""


@dataclass(frozen=True)
class RandomChecks:
    """Items sampled uniformly from what did not match after the last find all, and then marked.

    outside: the number of items that they were sampled from, which do not match and had no mark; wrong, right: how many
    of the sampled items are marked wrong and right.
    """

    outside: int
    wrong: int
    right: int

    def needed(self, found: float, target: float) -> int:
        """Return how many random items, all wrong, show that the answer holds a share of all right items.

        found: the right items that the answer surely holds; target: the share, between 0 and 1. The number includes
        items that are already marked. It is at most `outside`. It is 0 if the answer holds that share even with
        `outside` more right items.
        """
        allowed = math.floor(found * (1 - target) / target)
        if allowed >= self.outside:
            return 0
        if allowed == 0:
            return self.outside
        return min(self.outside, math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-allowed / self.outside)))
