"""`cutover env`: output and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from cutover.cli.doctor import env_command, parity_facts, parity_lines
from cutover.core.errors import ConfigError
from cutover.core.verdict import Finding
from cutover.env.lint import LintReport, ParityRow

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [ParityRow("TAG", {"blue": "sha-1", "green": "sha-2"}, "differs, as it should")]


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([], ["blue and green: nothing to correct"]),
        ([Finding("f", "x is y", "do z")], ["f: x is y: do z", "1 thing to correct"]),
        ([Finding("f", "x", "z")] * 2, ["f: x: z", "f: x: z", "2 things to correct"]),
    ],
)
def test_ends_with_what_is_to_be_done(findings: list[Finding], expected: list[str]) -> None:
    """The output is the table, one line for each finding, and their number."""
    lines = parity_lines(LintReport(("blue", "green"), findings, ROWS))
    assert lines == ["key  blue   green", "TAG  sha-1  sha-2  differs, as it should", "", *expected]


def test_has_a_document_for_programs() -> None:
    """JSON has the same content as the text."""
    document = parity_facts(LintReport(("blue", "green"), [Finding("f", "x", "z")], ROWS))
    assert json.loads(json.dumps(document)) == {
        "ok": False,
        "findings": [{"where": "f", "what": "x", "todo": "z"}],
        "parity": [
            {"key": "TAG", "shown": {"blue": "sha-1", "green": "sha-2"}, "word": "differs, as it should"}
        ],
    }


def test_writes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written only if all references are resolved, and no value is printed."""
    template, out = tmp_path / "t", tmp_path / ".env.green"
    template.write_text("A=env:CUTOVER_TEST_A\nIMAGE_TAG=sha-1\n")
    monkeypatch.delenv("CUTOVER_TEST_A", raising=False)
    words = ["render", str(template), "--output", str(out)]
    refused = CliRunner().invoke(env_command, words, standalone_mode=False)
    assert (refused.return_value, out.exists()) == (4, False)
    assert refused.output == (f"A: env:CUTOVER_TEST_A: CUTOVER_TEST_A is not set\n{out} was not written\n")
    monkeypatch.setenv("CUTOVER_TEST_A", "canary")
    done = CliRunner().invoke(env_command, words, standalone_mode=False)
    assert (done.return_value, done.output) == (0, f"wrote {out}, mode 0600\n")
    out.write_text("IMAGE_TAG='sha-2'\n")
    CliRunner().invoke(env_command, words, standalone_mode=False)
    assert out.read_text().splitlines()[1:] == ["A='canary'", "IMAGE_TAG='sha-2'"]


def test_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder is an error of one line."""
    template = tmp_path / "t"
    template.write_text("A=1\n")
    words = ["render", str(template), "--output", str(tmp_path / "nowhere" / "x")]
    refused = CliRunner().invoke(env_command, words, standalone_mode=False)
    assert isinstance(refused.exception, ConfigError)


@pytest.mark.parametrize("there", ["", "A='0'\n"], ids=["new", "replaced"])
def test_says_in_one_line_that_it_cannot_be_written(tmp_path: Path, there: str) -> None:
    """Exit 4, and what was there is as it was; here the draft beside it has a name that is too long."""
    template, out = tmp_path / "t", tmp_path / ("x" * 255)
    template.write_text("A=1\n")
    if there:
        out.write_text(there)
    words = ["render", str(template), "--output", str(out)]
    with pytest.raises(ConfigError) as raised:
        CliRunner().invoke(env_command, words, standalone_mode=False, catch_exceptions=False)
    assert str(raised.value) == f"{out} cannot be written: File name too long"
    assert (raised.value.exit_code, out.exists() and out.read_text()) == (4, there or False)
    assert len([*tmp_path.iterdir()]) == 1 + bool(there)


def test_a_finding_exits_1(tmp_path: Path) -> None:
    """A finding is a failed check, not a usage error: exit 1."""
    config = tmp_path / "cutover.toml"
    config.write_text('project = "recall"\n[colors.blue]\nenv_file = ".env.blue"\n')
    done = CliRunner().invoke(env_command, ["check", "--cutover-config", str(config)], standalone_mode=False)
    assert (done.return_value, f"{tmp_path}/.env.blue" in done.output) == (1, True), done.output


COMPOSE = """\
services:
  api:
    image: shop/api:${IMAGE_TAG:?}
    ports: ["127.0.0.1:${API_HTTP_PORT:?}:8000"]
"""
CONFIG = """\
project = "shop"
[colors.blue]
env_file = ".env.blue"
[colors.green]
env_file = ".env.green"
"""


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (COMPOSE, 0, "nothing to correct"),
        (COMPOSE + "    container_name: api\n", 1, "container_name"),
        (COMPOSE.replace("${IMAGE_TAG:?}", "2.8.1"), 1, "no release can choose"),
        (COMPOSE.replace("${API_HTTP_PORT:?}", "8000"), 1, "port 8000"),
    ],
)
def test_promises_nothing_that_a_release_refuses(tmp_path: Path, text: str, code: int, said: str) -> None:
    """The compose file is read by the rules of the preflight."""
    (tmp_path / "docker-compose.yml").write_text(text)
    (tmp_path / "cutover.toml").write_text(CONFIG)
    for number, color in enumerate(("blue", "green")):
        env_file = tmp_path / f".env.{color}"
        env_file.write_text(f"IMAGE_TAG=sha-1\nAPI_HTTP_PORT={18000 + number}\n")
        env_file.chmod(0o600)
    options = ["check", "--cutover-config", str(tmp_path / "cutover.toml")]
    done = CliRunner().invoke(env_command, options, standalone_mode=False)
    assert (done.return_value, said in done.output) == (code, True), done.output
