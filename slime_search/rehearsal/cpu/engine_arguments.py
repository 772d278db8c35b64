"""slime reads the fields of SGLang's arguments as a dataclass's; since SGLang 0.5.23 they are a msgspec struct's.

That is no matter of CPUs: it is so wherever slime 0.3.1 meets that version.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any


def fields_of(arguments: Any) -> Any:
    """The fields of a class of either kind; each has a ``name``."""
    if dataclasses.is_dataclass(arguments):
        return dataclasses.fields(arguments)
    import msgspec  # type: ignore[import-not-found]

    return msgspec.structs.fields(arguments)


def complete(engine: Any) -> None:
    """``engine`` is slime's ``sglang_engine``, which uses ``dataclasses.fields`` and nothing else of that module."""
    engine.dataclasses = SimpleNamespace(fields=fields_of)
