"""Rules for env files, as tables; blue and green side by side."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from cutover.core.verdict import Finding
from cutover.env import lint
from cutover.env.lint import parity_rows, parity_table

FLOATING = (
    "Latest", "LATEST", "latest-alpine", "api-latest", "prod", "production", "staging", "release", "develop", "dev",
    "test", "HEAD", "v1", "v12", "stable", "edge", "nightly",
)  # fmt: skip
PINNED = (
    "sha-4f1c2aa", "4f1c2aa", "v1.2.3", "1.2.3", "v1.2", "1234", "20260101", "main-4f1c2aa", "release-2026-01-01",
    "prod-17", "dev.3", "latests", "v20260101",
)  # fmt: skip


def told(findings: Iterable[Finding]) -> list[str]:
    """The problems without the advice."""
    return [finding.what for finding in findings]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("changeme", True),
        ("change-me-please", True),
        ("CHANGE_THIS", True),
        ("postgresql://recall:changeme@db/recall", True),
        ("ghcr.io/<owner>/<repo>/api", True),
        ("sha-<commit>", True),
        ("xxx", True),
        ("TODO", True),
        ("replace_me", True),
        ("change-me!", True),
        ("sk-change_me_to_a_long_string", True),
        ("django-insecure-change-me", True),
        ("...", True),
        ("sk-...", True),
        ("https://...", True),
        ("<your password>", True),
        ("postgresql://recall:<your password>@db/recall", True),
        ("postgresql://recall:TODO@db/recall", True),
        ("postgresql://recall:secret@xxx:5432/recall", True),
        ("redis://placeholder/0", True),
        ("https://<host>/v1?x=1", True),
        ("", False),
        ("Shop <shop>", False),
        ("Shop <shop@example.com>", False),
        ("wait...", False),
        ("Please wait ...", False),
        ("TO-DO", True),
        ("todo", False),
        ("Todo", False),
        ("postgresql://todo:s3cret@todo:5432/todo", False),
        ("TODO app", False),
        ("https://todo.example.com", False),
        ("postgres://u:p@db/todo", False),
        ("http://placeholder-images/", False),
        ("<green>{time}</green> <level>{message}</level>", False),
        ("aB<cd>eF9", False),
        ("xxl", False),
        ("I would change it", False),
        ("postgresql://recall:aXxx9todo8q@db/recall", False),
        ("p<4>k", False),
        ("exchangement", False),
        ("nothing-to-change", False),
        ("sha-4f1c2aa", False),
    ],
)
def test_knows_a_placeholder(value: str, *, expected: bool) -> None:
    """Placeholders are found; a generated password that contains such letters is not."""
    assert lint.is_placeholder(value) is expected


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("DB_PASSWORD", "todo", True),
        ("API_TOKEN", "To-Do", True),
        ("DATABASE_URL", "postgresql://todo:todo@todo/todo", True),
        ("POSTGRES_DB", "todo", False),
        ("APP_NAME", "Todo", False),
        ("DATABASE_URL", "postgresql://todo:s3cret@todo/todo", False),
        ("APP_NAME", "TODO", True),
    ],
)
def test_todo_is_a_name_but_no_secret(key: str, value: str, *, found: bool) -> None:
    """Many a service is called so; as a password it waits for its value."""
    assert bool([*lint.placeholders({key: value}, ".env")]) is found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("postgresql://recall:secret@db:5432/recall", None),
        ("postgresql+psycopg://recall:se%40cret@db/recall", None),
        ("redis://cache:6379/0", None),
        ("redis://:p%2Fw@[::1]:6379/0", None),
        ("sqlite:////data/recall.db", None),
        ("https://ai.example/v1?x=1#y", None),
        ("postgresql://recall:se@cret@db/recall", "there is more than one @ before its path"),
        ("postgresql://recall:se/cret@db/recall", "its port is no number up to 65535"),
        ("postgresql://recall:se#cret@db/recall", "its port is no number up to 65535"),
        ("redis://cache:99999/0", "its port is no number up to 65535"),
        ("redis://cache:0/0", "its port is 0"),
        ("redis://[::1/0", "its port is no number up to 65535"),
        ("http:///v1", "it names no host"),
        ("redis:///0", None),
        ("postgresql:///recall", None),
        ("mongodb://a:27017,b:27017/db", None),
        ("postgresql://u:p@h1:5432,h2:5432/db", None),
        ("minio:9000", None),
        ("jdbc:postgresql://db:5432/recall", None),
        ("https://a, https://b", None),
        ("https://a,https://b", None),
        ("default-src 'self' https://cdn.example.com; img-src *", None),
        ("PLAINTEXT://:9092", None),
        ("/auth/callback", None),
        ("tcp://0.0.0.0:9092", None),
        ("unix:///run/app.sock", None),
        ("http://+:80;https://+:443", None),
        ("http://0.0.0.0:8080;http://[::]:8080", None),
        ("tcp://a:1883|tcp://b:1883", None),
        ("http://localhost:*", None),
        ("https://*.example.com:*/x", None),
        ("http://localhost:{port}/callback", None),
        ("http://%(host)s:%(port)s/x", None),
        ("http://localhost:${PORT}/x", None),
        ("postgresql://recall:*se#cret@db/recall", "its port is no number up to 65535"),
        ("postgresql://recall:se;cret#x@db/recall", "its port is no number up to 65535"),
        ("", None),
    ],
)
def test_reads_a_url_as_a_client_does(value: str, expected: str | None) -> None:
    """A URL that clients split wrongly is found."""
    fault = lint.url_fault(value)
    assert (fault and fault[0]) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"A": "1", "B": "2"}, []),
        ({"A": "1", "B": "2", "C": "3"}, []),
        ({"A": "", "B": "2"}, []),
        ({"A": "1"}, ["B is missing, the template has it"]),
        ({}, ["A is missing, the template has it", "B is missing, the template has it"]),
    ],
)
def test_compares_with_the_template(values: dict[str, str], expected: list[str]) -> None:
    """Each key of the template must exist; its value may be empty."""
    assert told(lint.incomplete(values, {"A": "example", "B": ""}, "f")) == expected


def test_names_a_slip_of_the_pen() -> None:
    """The finding for a missing key names a similar key of the file."""
    found = lint.incomplete({"DATABSE_URL": "x"}, {"DATABASE_URL": "x"}, "f")
    assert [str(finding) for finding in found] == [
        "f: DATABASE_URL is missing, the template has it: is DATABSE_URL meant?"
    ]


@pytest.mark.parametrize(
    ("image", "tag", "count"),
    [
        ("r/api:sha-1", "sha-1", 0),
        ("r/api:latest", "latest", 1),
        ("r/api", "", 1),
        ("r/api@sha256:00", "", 0),
        ("r/api:main", "main", 1),
        *[(f"r/api:{tag}", tag, 1) for tag in FLOATING],
        *[(f"r/api:{tag}", tag, 0) for tag in PINNED],
    ],
)
def test_wants_a_tag_that_does_not_move(image: str, tag: str, count: int) -> None:
    """A tag that is moved to other images is found; an image with a digest needs no tag."""
    assert len([*lint.unpinned(image, tag, "f", "IMAGE_TAG")]) == count


@pytest.mark.parametrize(
    ("environment", "count"),
    [({}, 0), ({"IMAGE_TAG": "sha-1"}, 0), ({"IMAGE_TAG": "sha-2"}, 1), ({"IMAGE_TAG": ""}, 1)],
)
def test_sees_what_the_shell_would_override(environment: dict[str, str], count: int) -> None:
    """An exported variable overrides the file, also an empty one."""
    assert len([*lint.exported({"IMAGE_TAG": "sha-1"}, environment, "f")]) == count


@pytest.mark.parametrize("key", ["PATH", "HOME", "USER", "HOSTNAME", "LANG", "PWD"])
def test_nobody_has_to_unset_what_each_shell_has(key: str) -> None:
    """A container has its own, as HOSTNAME=0.0.0.0 of Next.js; and a shell without PATH finds no command."""
    assert told(lint.exported({key: "/app"}, {key: "/root"}, "f")) == []


@pytest.mark.parametrize(
    ("blue", "green", "expected"),
    [
        ({"P": "1", "D": "x"}, {"P": "2", "D": "x"}, []),
        ({"P": "1", "D": "x"}, {"P": "1", "D": "x"}, ["green: P is the same as blue's"]),
        ({"P": "1", "D": "x"}, {"P": "2", "D": "y"}, ["green: D is another than blue's"]),
        ({"P": "1", "D": "x", "L": "1"}, {"P": "2", "D": "x", "L": "2"}, []),
        (
            {"P": "1", "D": "x", "L": "1"},
            {"P": "2", "D": "x"},
            ["green: L is missing, another color has it"],
        ),
        ({"P": "1"}, {"P": "2", "D": "x"}, ["blue: D is missing, another color has it"]),
        ({"P": "", "D": ""}, {"P": "", "D": "x"}, ["green: D is another than blue's"]),
    ],
)
def test_compares_the_colors(blue: dict[str, str], green: dict[str, str], expected: list[str]) -> None:
    """Colors have own ports, the same data, and the same keys."""
    colors = {"blue": blue, "green": green}
    found = lint.compare_colors(colors, {each: each for each in colors}, apart=("P",), shared=("D",))
    assert [f"{finding.where}: {finding.what}" for finding in found] == expected


def test_refuses_a_database_of_its_own() -> None:
    """A data profile in one color is found: it would start an empty database."""
    found = lint.own_data({"COMPOSE_PROFILES": "db,extra"}, ("db", "cache"), "f", "green")
    assert told(found) == ["COMPOSE_PROFILES=db: green would start its own empty db"]


@pytest.mark.parametrize(
    "value", ["op://v/i/f", "vault://kv/x#y", "file:///run/x", "postgresql://u:{{ env:X }}@db/x"]
)
def test_sees_a_reference_that_nobody_followed(value: str) -> None:
    """A template that was copied and not rendered is found."""
    assert told(lint.placeholders({"A": value}, "f")) == ["A still holds a reference"]


@pytest.mark.parametrize("value", ["file:/data/app.db", "{{ name }} logged in", "env", "{{.Level}}"])
def test_leaves_other_values_alone(value: str) -> None:
    """Values that only resemble a reference are not reported."""
    assert told(lint.placeholders({"A": value}, "f")) == []


def test_shows_the_colors_without_their_secrets() -> None:
    """Each key has a row; only public and empty values are shown."""
    colors = {
        "blue": {"TAG": "sha-1", "PORT": "8000", "URL": "canary-1", "KEY": "canary-2", "LEVEL": ""},
        "green": {"TAG": "sha-2", "PORT": "8001", "URL": "canary-1", "KEY": "canary-3", "EXTRA": "canary-4"},
    }
    rows = parity_rows(colors, public=("TAG", "PORT"), apart=("TAG", "PORT"))
    assert parity_table(rows, ("blue", "green")) == [
        "key    blue     green",
        "TAG    sha-1    sha-2  differs, as it should",
        "PORT   8000     8001   differs, as it should",
        "URL    ***      ***    same",
        "KEY    ***      ***    differs",
        "LEVEL  (empty)  -      missing",
        "EXTRA  -        ***    missing",
    ]
    assert "canary" not in str(rows)
