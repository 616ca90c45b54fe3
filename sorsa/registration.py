"""Make SORSA and OSoRA known to PEFT: add the missing `PeftType` members, register config and tuner classes.

`import sorsa` must do this, yet must stay light (`run.py --help` answers in under a second, and importing PEFT takes
several). So the registration runs at once when PEFT is already imported, and else right after PEFT's import.
"""

from __future__ import annotations

import enum
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


def add_enum_member(enum_class: type[enum.Enum], name: str, value: str) -> enum.Enum:
    """Add a member to an existing string `Enum`; PEFT's own `PeftType` has no entry for methods from outside.

    Args:
        enum_class: A `(str, Enum)` class.
        name: The member's name, for example `SORSA`.
        value: The member's value.

    Returns:
        The new member, or the existing one if the name is already there.

    Raises:
        ValueError: The name exists with another value.
    """
    existing = enum_class.__members__.get(name)
    if existing is not None:
        if existing.value != value:
            raise ValueError(f"{enum_class.__name__}.{name} exists with value {existing.value!r}, wanted {value!r}")
        return existing
    member = str.__new__(enum_class, value)
    member._name_ = name
    member._value_ = value
    member.__objclass__ = enum_class
    member._sort_order_ = len(enum_class)
    setattr(enum_class, name, member)  # before _member_map_: afterwards EnumType refuses to set a member's name
    enum_class._member_names_.append(name)
    enum_class._member_map_[name] = member
    enum_class._value2member_map_[value] = member
    return member


def register_with_peft() -> None:
    """Register SORSA and OSoRA with PEFT; calling it again changes nothing. Imports PEFT and torch."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import register_peft_method
    from peft.utils.peft_types import PeftType

    members = [add_enum_member(PeftType, name, name) for name in ("SORSA", "OSORA")]
    if members[-1] in PEFT_TYPE_TO_CONFIG_MAPPING:
        return
    from sorsa.adapters.config import OsoraConfig, SorsaConfig
    from sorsa.adapters.model import OsoraModel, SorsaModel

    register_peft_method(name="sorsa", config_cls=SorsaConfig, model_cls=SorsaModel)
    register_peft_method(name="osora", config_cls=OsoraConfig, model_cls=OsoraModel)


class _AfterPeftImport(importlib.abc.MetaPathFinder):
    """Import hook that runs `register_with_peft` once PEFT's own import has finished.

    It stays in place: `importlib.util.find_spec("peft")`, with which libraries ask whether PEFT is installed, comes
    through here too and imports nothing.
    """

    _asking = False  # whether the search for the real spec, which meets this hook again, is under way

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "peft" or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec("peft")
        finally:
            self._asking = False
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_then_register(module: ModuleType) -> None:
            load(module)
            register_with_peft()

        spec.loader.exec_module = load_then_register
        return spec


def register_when_peft_is_imported() -> None:
    """Register now if PEFT is imported already, else as soon as it is. Costs microseconds in the second case."""
    if "peft" in sys.modules:
        register_with_peft()
    elif not any(isinstance(finder, _AfterPeftImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterPeftImport())
