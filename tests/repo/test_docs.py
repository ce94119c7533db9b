"""Names in the server document and the runbook exist: paths, commands, options, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Context, Group

from cutover.cli.main import cutover
from cutover.core.config import Settings
from cutover.plugin import options

ROOT = Path(__file__).parents[2]
# The steps of the original manual runbook, one per line.
LINES = (
    "CI.4 completed", "Staging QA", "Production env templates", "`API_HTTP_PORT`", "Deploy scripts", "Smoke test helper",
    "`DEPLOY_HOST`, `DEPLOY_USER`, `DEPLOY_KEY`, `DEPLOY_PATH`", "private GHCR", "never commit real values",
    "based on `deploy/.env.production.example`", "`IMAGE_REPO` and `IMAGE_TAG`", "`VLLM_ENDPOINT`",
    "`COMPOSE_PROFILES=db,cache,ai`", "Vault/1Password", "`flask db upgrade`", "validate migration on staging",
    "off-peak", "snapshot before cutover", "retain N last snapshots", "minimal downtime", "health gate, auto-rollback",
    "two Compose projects", "1. prepare `.env` per color", "2. deploy Green", "3. smoke test Green", "4. switch traffic",
    "5. optionally stop Blue", "port-swap variant", "automatic on failed health", "manual: `server_rollback.sh --to-tag",
    "flip proxy back to Blue", "`/readyz` returns 200", "`/version` returns", "health status turns healthy",
    "no error spikes in logs", "scripted example", "no repeated restarts", "CPU/RAM within SLO; no memory leak",
    "DB/Redis reachable", "5xx rate watch", "announce maintenance window", "confirm backups", "freeze writes if required",
    "deploy new image to idle color", "switch proxy to Green", "monitor for 10", "disable Blue",
    "publish completion notice", "unfreeze writes", "postmortem: record learnings", "update this runbook",
)  # fmt: skip
DOCS = (
    "README.md",
    "docs/runbook.md",
    "docs/dev/deploy_server.md",
    "docs/elsewhere.md",
    "docs/getting-started.md",
    "docs/index.md",
    "docs/masking.md",
    "docs/plugins.md",
    "docs/swarm.md",
)
# Created by the operator or a session, so not in the tree.
MADE = re.compile(r"/\.env\.\w+(\.template)?$")


def text_of(name: str) -> str:
    """Text of the document."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCS)
def test_each_path_is_there(name: str) -> None:
    """Each script, test file, template or document that is named exists."""
    named = re.findall(r"(?<![\w/.-])(?:scripts|smoke|checks|deploy|docs|\.github)/[\w./-]*\w", text_of(name))
    missing = {path for path in named if not (ROOT / path).exists() and not MADE.search(path)}
    assert missing == set()


@pytest.mark.parametrize("name", DOCS)
def test_each_command_is_there(name: str) -> None:
    """Each `cutover WORD` is a command."""
    named = set(re.findall(r"(?:`|bin/|-cutover )cutover ([a-z]+)", text_of(name)))
    assert named - set(cutover.list_commands(None)) == set()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DOCS)
def test_each_setting_is_there(name: str) -> None:
    """Each `[table] key` is a setting of cutover.toml."""
    fields = Settings.model_fields
    for table, key in re.findall(r"`\[+(\w+)\]+ ?(\w*)", text_of(name)):
        assert table in fields
        if key:
            assert f"'{key}'" in repr_of(fields[table].annotation), f"[{table}] {key}"


def rows() -> list[tuple[str, str]]:
    """First and second column of each row in the runbook's tables."""
    cells = [
        line.strip("|").split(" | ")
        for line in text_of("docs/runbook.md").splitlines()
        if line.startswith("| ")
    ]
    return [(each[0].strip(), each[1]) for each in cells]


@pytest.mark.parametrize("line", LINES)
def test_each_line_of_the_runbook_is_a_command_or_a_check(line: str) -> None:
    """Each step of the runbook has one row, which names a command, a setting or a file."""
    found = [second for first, second in rows() if line in first]
    assert len(found) == 1
    assert re.search(r"`[^`]+`|preflight|session", found[0])


@pytest.mark.parametrize("name", DOCS)
def test_each_option_is_there(name: str) -> None:
    """An option that is named with one of our commands, scripts or sessions is one that it has."""
    ours = {each for each, _, _ in options.OPTIONS}
    for span in re.findall(r"`([^`\n]+)`", text_of(name)):
        words = span.removeprefix(".venv/bin/").split()
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        if words[:1] == ["cutover"] and len(words) > 1:
            assert used <= options_of(words[1]), span
        elif words[:1] == ["pytest"]:
            assert used <= ours, span
        elif words[0].startswith("scripts/deploy/server_rollback"):
            assert used <= options_of("rollback"), span
        elif words[0].startswith("scripts/deploy/"):
            assert used <= ours | {"--image-tag"}, span


def options_of(name: str) -> set[str]:
    """Options of `cutover NAME` and its subcommands."""
    context = Context(cutover)
    command = cutover.get_command(context, name)
    assert command is not None
    below = [command]
    if isinstance(command, Group):
        below += [
            found for each in command.list_commands(context) if (found := command.get_command(context, each))
        ]
    return {word for each in below for param in each.params for word in param.opts}


def repr_of(annotation: object) -> str:
    """Keys of the table that an annotation refers to."""
    parts = [annotation, *getattr(annotation, "__args__", ())]
    return str([list(part.model_fields) for part in parts if hasattr(part, "model_fields")])


def test_each_row_of_the_compose_page_has_its_test() -> None:
    """Each test that docs/compose.md names exists."""
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of("docs/compose.md")))
    assert named
    assert {f"{file}::{test}" for file, test in named if f"def {test}(" not in text_of(file)} == set()
