"""The methods themselves. Reading order: `layer.py` (SORSA, the paper's Eq. 1) and `osora_layer.py` (OSoRA),
`decomposition.py` (the SVD that starts both), `regularizer.py` (Definition 4.1 and Eq. 3), `functional.py` (Eq. 1's
gradient), `residual_layer.py` (what both layers share), `model.py` and `config.py` (PEFT's contract), `export.py` (the
same adapter as a plain LoRA)."""

import peft  # noqa: F401  before any module here: importing PEFT registers SORSA, which imports those modules
