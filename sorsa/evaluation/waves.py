"""Cutting a test into waves: the pieces that are generated, written to the disk and repeated as a whole.

In BF16 an answer depends a little on the rows beside it. A wave is always the same questions in the same order, and a
restart repeats a wave from its beginning, so the answers are those of an undisturbed run, however many processes share
the waves.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

# Questions of a wave, at most. At its end the batch runs empty, which costs about half a longest answer per wave: with
# fewer questions that is felt, with more an interruption loses more, and several processes have less to share.
WAVE = 128


def cut(lengths: Sequence[int]) -> list[list[int]]:
    """Return the waves: places of questions, the longest prompts first, ties in the order of the data set.

    Args:
        lengths: Tokens of each prompt.
    """
    # longest first: a batch size too large for the memory shows at once, and the time left is never underestimated
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    count = -(-len(order) // WAVE)
    bounds = [len(order) * wave // count for wave in range(count)] + [len(order)]  # of nearly equal size
    return [order[begin:end] for begin, end in itertools.pairwise(bounds)]
