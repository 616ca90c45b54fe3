"""Partial fine-tuning: the named modules' own weights are trained (the paper's section 6.1: q_proj and v_proj)."""

from __future__ import annotations

from sorsa.methods import MODULE_SETTINGS, Method

METHOD = Method(settings=MODULE_SETTINGS, peft_config=None)
