"""SORSA: singular values and orthonormal regularized singular vectors adaptation (arXiv 2409.00055), for PEFT.

    import sorsa                                              # registers SORSA and OSoRA with PEFT
    from sorsa import OrthonormalCallback, SorsaConfig
    model = get_peft_model(base, SorsaConfig(r=16, target_modules="all-linear"))
    Trainer(model, ..., callbacks=[OrthonormalCallback(gamma=4e-4)])

OSoRA (`OsoraConfig`, arXiv 2505.14350) is used alike, without the callback: it trains no singular vectors.

Names are loaded on first use, so that `import sorsa` itself takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import Any

from sorsa.registration import register_when_peft_is_imported

__version__ = "0.1.0"

_EXPORTS = {
    "SorsaConfig": "sorsa.adapters.config",
    "SorsaModel": "sorsa.adapters.model",
    "OsoraConfig": "sorsa.adapters.config",
    "OsoraModel": "sorsa.adapters.model",
    "OrthonormalCallback": "sorsa.adapters.regularizer",
    "add_regularizer_gradient": "sorsa.adapters.regularizer",
    "gradient_weight": "sorsa.adapters.regularizer",
    "orthonormality_error": "sorsa.adapters.regularizer",
    "regularizer_value": "sorsa.adapters.regularizer",
    "export_lora": "sorsa.adapters.export",
}
__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'sorsa' has no attribute {name!r}; it has {', '.join(_EXPORTS)}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    """List the lazily loaded names too."""
    return sorted([*globals(), *_EXPORTS])


register_when_peft_is_imported()
