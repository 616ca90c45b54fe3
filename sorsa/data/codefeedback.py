"""CodeFeedback-Filtered-Instruction: 157,000 programming instructions with answers (paper, section 6.2)."""

from __future__ import annotations

from sorsa.data.prompts import code_train_prompt
from sorsa.data.recipe import Recipe

RECIPE = Recipe(
    hub_id="m-a-p/CodeFeedback-Filtered-Instruction", query="query", response="answer", prompt=code_train_prompt
)
