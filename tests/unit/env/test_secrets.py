"""References in templates: found, replaced, and the reasons of those that cannot be resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cutover.core.masking import MASK
from cutover.env.envfile import (
    SecretSources,
    UnresolvedReference,
    fill_references,
    find_references,
    resolve_template,
)
from cutover.system.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("op://prod/db/password", ["op://prod/db/password"]),
        (
            "op://prod/data base/one-time password?attribute=otp",
            ["op://prod/data base/one-time password?attribute=otp"],
        ),
        ("vault://kv/recall/db#password", ["vault://kv/recall/db#password"]),
        ("file:///run/secrets/db", ["file:///run/secrets/db"]),
        ("file:/data/app.db", []),
        ("file:./dev.db", []),
        ("env:DB_PASSWORD", ["env:DB_PASSWORD"]),
        ("postgresql://u:{{ env:A | url }}@{{env:B}}/x", ["env:A", "env:B"]),
        ("postgresql://u:p@db/x", []),
        ("environment: production", []),
        ("https://vault.example/x", []),
        ("", []),
    ],
)
def test_finds_references(value: str, expected: list[str]) -> None:
    """A reference is a whole value, or a part of one in double braces."""
    assert find_references(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("env:A", "p@s/s {{ env:B }}"),
        ("x{{env:B}}y", "xby"),
        (
            "postgresql://u:{{ env:A | url }}@db/x",
            "postgresql://u:p%40s%2Fs%20%7B%7B%20env%3AB%20%7D%7D@db/x",
        ),
        ("plain", "plain"),
    ],
)
def test_fills_in_what_was_found(value: str, expected: str) -> None:
    """A secret is inserted literally, percent-encoded after `| url`, and never resolved again."""
    assert fill_references(value, {"env:A": "p@s/s {{ env:B }}", "env:B": "b"}) == expected


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("env:NOT_THERE", "NOT_THERE is not set"),
        ("env:EMPTY", "EMPTY is empty"),
        ("file:///nowhere/at/all", "no such file or directory"),
        ("file:///", "is a directory"),
        ("vault://kv", "is not vault://mount/path#key"),
        ("vault://kv/path", "is not vault://mount/path#key"),
        ("vault://kv/path#key", "VAULT_ADDR is not set"),
        ("op://v/i/f", "the 1Password CLI `op` is not installed here"),
        ("sops://x", "unknown kind of reference: op://, vault://, file://, env: are known"),
    ],
)
def test_says_why_a_reference_leads_nowhere(reference: str, reason: str) -> None:
    """Each reference that cannot be resolved has a reason."""
    with pytest.raises(UnresolvedReference) as raised:
        SecretSources({"EMPTY": "", "PATH": "/nowhere"}).fetch(reference)
    assert str(raised.value) == reason


def test_reads_a_file_without_its_last_newline(tmp_path: Path) -> None:
    """The last newline of a file does not belong to the secret."""
    secret = tmp_path / "secret"
    secret.write_text(" canary file \n\n")
    assert SecretSources({}).fetch(f"file://{secret}") == " canary file \n"


def test_masks_what_it_fetched() -> None:
    """A resolved secret is masked from then on."""
    SecretSources({"DB_PASSWORD": "canary-0815"}).fetch("env:DB_PASSWORD")
    assert MASK("said canary-0815 aloud") == "said *** aloud"


def test_names_each_reference_that_is_missing() -> None:
    """All missing references are returned, and no values."""
    template = {"A": "env:A", "B": "env:B", "C": "x{{ env:C }}{{ file:///nowhere/c }}", "D": "plain"}
    values, missing = resolve_template(template, SecretSources({"A": "1"}))
    assert values == {}
    assert missing == [
        "B: env:B: B is not set",
        "C: env:C: C is not set",
        "C: file:///nowhere/c: no such file or directory",
    ]


def test_keeps_what_a_release_wrote() -> None:
    """Rendering again keeps the tag that a release has written."""
    values, _ = resolve_template(
        {"IMAGE_TAG": "sha-0", "A": "1"}, SecretSources({}), kept={"IMAGE_TAG": "sha-9"}
    )
    assert values == {"IMAGE_TAG": "sha-9", "A": "1"}


def test_writes_for_its_owner_only_and_in_one_step(tmp_path: Path) -> None:
    """The file has mode 0600, a link stays a link, and no temporary file is left."""
    target = tmp_path / "colors" / ".env.green"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o644)
    link = tmp_path / ".env"
    link.symlink_to(target)
    write_atomically(link, "A='1'\n")
    assert (link.is_symlink(), target.read_text(), target.stat().st_mode & 0o777) == (True, "A='1'\n", 0o600)
    assert [path.name for path in target.parent.iterdir()] == [".env.green"]


def test_leaves_what_was_there_when_it_cannot_write(tmp_path: Path) -> None:
    """A failed write keeps the old file and leaves no temporary file."""
    target = tmp_path / ".env"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(target, "A='\udc80'\n")
    assert (target.read_text(), [path.name for path in tmp_path.iterdir()]) == ("old", [".env"])
