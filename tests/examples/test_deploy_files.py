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
    """Variable → its value and whether it is set, of an example; a line ``#NAME=value`` shows a default."""
    rows = re.findall(r"^(#?)([A-Z_]+)=(.*)$", (DEPLOY / name).read_text(), re.MULTILINE)
    return {variable: (value.strip("'"), not mark) for mark, variable, value in rows}


def test_every_variable_of_the_compose_file_is_explained() -> None:
    """Whoever reads the examples knows all that the Compose file asks for, and nothing that it does not."""
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE))
    explained = {variable for name in EXAMPLES for variable in settings(name)}
    assert asked | {"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"} == explained


def test_a_default_that_is_shown_is_the_default() -> None:
    """An example's commented value is what happens without it."""
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", COMPOSE))
    for name in EXAMPLES:
        for variable, (value, is_set) in settings(name).items():
            if not is_set:
                assert value == defaults[variable], variable


def test_each_example_is_explained_line_by_line() -> None:
    """No variable stands in an example without words before it."""
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
    """An example that was copied and forgotten does not pass the preflight."""
    value, is_set = settings(name)[variable]
    assert is_set
    assert is_placeholder(value)


def test_the_data_profiles_stand_where_they_may() -> None:
    """A color that turned a data profile on would start its own empty database."""
    assert "COMPOSE_PROFILES" not in settings(".env.production.example")
    assert settings(".env.deploy.example")["COMPOSE_PROFILES"] == ("db,cache,ai", True)
