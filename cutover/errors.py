"""The errors that a person is told in one line, each with the exit code that it ends with."""

from __future__ import annotations

from typing import ClassVar


class CutoverError(Exception):
    """Something a person must be told in one line: what, where it came from, what is allowed."""

    exit_code: ClassVar[int] = 3


class UsageProblem(CutoverError):
    """Usage, configuration or preflight: this session changed nothing."""

    exit_code = 4


class Locked(CutoverError):
    """Another release is open; nothing was changed."""

    exit_code = 12


class Failed(CutoverError):
    """A change or the question after it was answered with a sure no; what was changed is to be taken back."""

    exit_code = 1


class Inconclusive(CutoverError):
    """Something was asked and could not be answered; what was changed is to be taken back."""

    exit_code = 10


class NeedsPerson(CutoverError):
    """The take-back failed or could not be verified; the text ends with the one command to run."""

    exit_code = 11
