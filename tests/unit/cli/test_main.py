"""What the command line refuses before any command is called."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
import pytest

from cutover.cli import main


def _options(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each option that takes a value, with the words of its command."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _options(found, *path, name)
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag:
            yield from ((path, name) for name in option.opts)


OPTIONS = [*_options(main.cutover)]


@pytest.mark.parametrize("given", ["{}=", "{}= ", "{} "], ids=["nothing", "a space", "a word of its own"])
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[" ".join((*c, o)) for c, o in OPTIONS])
def test_an_option_with_an_empty_value_is_refused(
    command: tuple[str, ...],
    option: str,
    given: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As by a variable that is not set: what happens without the option may be the opposite of what was meant."""
    words = given.format(option).split(" ", 1) if given == "{} " else [given.format(option)]
    monkeypatch.setattr(sys, "argv", ["cutover", *command, *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = f"cutover: {option} needs a value: it is empty, as of a variable that is not set"
    assert ended.value.code == 4
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), ""),
        (("release", "sha-2", "--hosts=all", "-v", "-o", "log_level="), ""),
        (("rollback", "--to-tag", "sha-1"), ""),
        (("lease", "7", "--what=a b"), ""),
        (("confirm", ""), ""),
        (("release", "sha-2", "-k", ""), "-k"),
    ],
)
def test_only_an_empty_value_of_an_option_is_meant(words: tuple[str, ...], name: str) -> None:
    """Also of an option that pytest gets; other arguments are for their command."""
    assert main.empty_option(words) == name
