"""The method itself. Reading order: `layer.py` (the paper's Eq. 1), `decomposition.py` (the SVD that starts it),
`regularizer.py` (Definition 4.1 and Eq. 3), `functional.py` (Eq. 1's gradient), `model.py` and `config.py` (PEFT's
contract), `export.py` (the same adapter as a plain LoRA)."""

import peft  # noqa: F401  before any module here: importing PEFT registers SORSA, which imports those modules
