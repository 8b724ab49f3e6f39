"""The one error that is addressed to a person."""

from typing import Any


class UserError(ValueError):
    """A mistake in the user's config or input. Its message is one line: what was wrong, and what to do.

    Commands show it without a traceback. Every other exception is a bug and keeps its traceback.
    """


def whole_number(name: str, value: Any, least: int) -> int:
    """The value, where it is a whole number from `least` up; UserError by its name otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value} must be a whole number, at least {least}")
    return value
