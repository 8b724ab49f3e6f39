"""The one error that is addressed to a person."""

from typing import Any

__all__ = ["UserError", "whole_number"]


class UserError(Exception):
    """Something the user can mend; its message is one line that says what was wrong and what to do."""


def whole_number(name: str, value: Any, least: int) -> int:
    """The value, where it is a whole number from `least` up; UserError by its name otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value} must be a whole number, at least {least}")
    return value
