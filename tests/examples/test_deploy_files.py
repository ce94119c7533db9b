from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from cutover.env.lint import is_placeholder

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = (DEPLOY / "docker-compose.yml").read_text()
EXAMPLES = (".env.production.example", ".env.deploy.example")


def settings(name: str) -> dict[str, tuple[str, bool]]:
    """Variable → value and whether it is set, in an example file; a line ``#NAME=value`` shows a default."""
    rows = re.findall(r"^(#?)([A-Z_]+)=(.*)$", (DEPLOY / name).read_text(), re.MULTILINE)
    return {variable: (value.strip("'"), not mark) for mark, variable, value in rows}


def test_every_variable_of_the_compose_file_is_explained() -> None:
    """The example files contain exactly the variables that the Compose file uses."""
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE))
    explained = {variable for name in EXAMPLES for variable in settings(name)}
    assert asked | {"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"} == explained


def test_a_default_that_is_shown_is_the_default() -> None:
    """A commented value in an example is the default in the Compose file."""
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", COMPOSE))
    for name in EXAMPLES:
        for variable, (value, is_set) in settings(name).items():
            if not is_set:
                assert value == defaults[variable], variable


def test_each_example_is_explained_line_by_line() -> None:
    """Every variable in an example file follows a comment or another variable."""
    for name in EXAMPLES:
        lines = (DEPLOY / name).read_text().splitlines()
        for before, line in pairwise(lines):
            if re.match(r"[A-Z_]+=", line):
                assert before.startswith("#") or re.match(r"[A-Z_]+=", before), f"{name}: {line}"


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        (".env.production.example", "IMAGE_REPO"),
        (".env.production.example", "IMAGE_TAG"),
        (".env.production.example", "DATABASE_URL"),
        (".env.deploy.example", "POSTGRES_PASSWORD"),
    ],
)
def test_what_must_be_replaced_is_refused_as_it_stands(name: str, variable: str) -> None:
    """Placeholders in a copied example file are detected by the preflight."""
    value, is_set = settings(name)[variable]
    assert is_set
    assert is_placeholder(value)


def test_the_data_profiles_stand_where_they_may() -> None:
    """Only the shared env file enables the data profiles; a color would start an empty database of its own."""
    assert "COMPOSE_PROFILES" not in settings(".env.production.example")
    assert settings(".env.deploy.example")["COMPOSE_PROFILES"] == ("db,cache,ai", True)
