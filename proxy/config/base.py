"""Base class and field types that all settings share."""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, overload

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


def as_list(value: Any) -> Any:
    """A single entry may be written without a list around it."""
    return value if value is None or isinstance(value, list) else [value]


def check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a name is up to 64 letters, digits, '-', '_' and '.', and starts with a letter or digit")
    return value


class Unfit(ValueError):
    """A key of a mapping that does not fit the others: `at` is where it is, so that the message points there."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


_T = TypeVar("_T")


@overload
def setting(default: Callable[[], _T], description: str, **bounds: Any) -> _T: ...
@overload
def setting(default: _T, description: str, **bounds: Any) -> _T: ...
def setting(default: Any, description: str, **bounds: Any) -> Any:
    """A key that may be left out: what it is then, what it means, and the bounds that pydantic's `Field` takes.

    `default` is a value, or a function that makes one, such as `list`.
    """
    named = {"default_factory" if callable(default) else "default": default}
    return Field(**named, description=description, **bounds)


Patterns = Annotated[list[str], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Model(BaseModel):
    """Base of all settings: no unknown keys, no type conversion, finite numbers, read-only, and no values in error messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)
