"""The one error that is addressed to a person."""

__all__ = ["UserError"]


class UserError(Exception):
    """Something the user can mend; its message is one line that says what was wrong and what to do."""
