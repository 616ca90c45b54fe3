"""MetaMathQA: 395,000 mathematics questions with worked answers that end in `The answer is: X` (paper, section 6.2)."""

from __future__ import annotations

from sorsa.data.prompts import math_train_prompt
from sorsa.data.recipe import Recipe

RECIPE = Recipe(hub_id="meta-math/MetaMathQA", query="query", response="response", prompt=math_train_prompt)
