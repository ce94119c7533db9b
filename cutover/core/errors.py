"""Errors that are printed in one line, each with the exit code of the process."""

from __future__ import annotations

from typing import ClassVar

from cutover.core.masking import printable


class CutoverError(Exception):
    """An error for the operator. The text is one line: what is wrong, where, and what is allowed."""

    exit_code: ClassVar[int] = 3

    def __init__(self, *args: object, check: int | None = None) -> None:
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in args))
        self.check = check
        """The id of the check in the evidence that recorded the failure, None if there is none."""


class ConfigError(CutoverError):
    """Wrong usage, configuration or failed preflight. Nothing was changed."""

    exit_code = 4


class Locked(CutoverError):
    """Another release is in progress. Nothing was changed."""

    exit_code = 12


class Failed(CutoverError):
    """A change failed, or the check after it. The changes of the session must be reverted."""

    exit_code = 1


class Interrupted(CutoverError):
    """A person or the machine ended the command, whose changes were reverted."""

    exit_code = 2


class Inconclusive(CutoverError):
    """A check could not be answered. The changes of the session must be reverted."""

    exit_code = 10


class EngineUnavailable(Inconclusive):
    """The Docker engine did not answer."""


class OperatorNeeded(CutoverError):
    """The revert failed or could not be verified. The text ends with the command to run."""

    exit_code = 11

    def __init__(self, *args: object, check: int | None = None, release: str | None = None) -> None:
        super().__init__(*args, check=check)
        self.release = release
        """The id of the release that was reverted, and is not open any more; None for another."""
