from __future__ import annotations

import pytest

from examples.recall.settings import EMBEDDED, color, database_url, read


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ("recall_blue", "blue"),
        ("recall_green", "green"),
        ("recall-green", "green"),
        ("my_recall-blue", "blue"),
        ("recall", ""),
        ("", ""),
    ],
)
def test_the_color_is_the_last_word_of_the_project(project: str, expected: str) -> None:
    """The color is the last part of the Compose project name."""
    assert color(project) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", EMBEDDED),
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql://u:postgres%3A%2F%2F@h/d", "postgresql://u:postgres%3A%2F%2F@h/d"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_a_database_url_is_what_sqlalchemy_reads(url: str, expected: str) -> None:
    """Without a URL the embedded database is used, and postgres:// becomes postgresql://."""
    assert database_url(url) == expected


@pytest.mark.parametrize(
    ("environment", "field", "expected"),
    [
        ({}, "tag", "unknown"),
        ({"BUILT_AS": "sha-1111111"}, "tag", "sha-1111111"),
        ({"BUILT_AS": "sha-1111111", "IMAGE_TAG": ""}, "tag", "sha-1111111"),
        ({"BUILT_AS": "sha-1111111", "IMAGE_TAG": "sha-2222222"}, "tag", "sha-2222222"),
        ({"COLOR": "red", "COMPOSE_PROJECT_NAME": "recall_blue"}, "color", "red"),
        ({"COLOR": "", "COMPOSE_PROJECT_NAME": "recall_blue"}, "color", "blue"),
        ({"VLLM_ENDPOINT": "http://ai:8000/v1/"}, "ai_endpoint", "http://ai:8000"),
        ({"VLLM_ENDPOINT": "http://ai:8000"}, "ai_endpoint", "http://ai:8000"),
        ({}, "embedded", True),
        ({"DATABASE_URL": "postgresql://h/d"}, "embedded", False),
        ({}, "text_column", "text"),
        ({"DEFECT": "migration-contract"}, "text_column", "body"),
        ({"DEFECT_SECONDS": ""}, "defect_seconds", 20),
    ],
)
def test_what_is_unset_or_empty_has_a_default_that_runs(
    environment: dict[str, str], field: str, expected: object
) -> None:
    """An unset or empty variable gets its default; Compose passes unset variables as empty strings."""
    assert getattr(read(environment), field) == expected
