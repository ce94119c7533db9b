from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from examples.catalogue import DEFECTS, Seen

RECALL = Path(__file__).parents[2] / "examples" / "recall"
# These defects are in the Dockerfile or the migrations, not in the code.
NO_CODE = {"listens-elsewhere", "runs-as-root", "no-healthcheck", "migration-contract", "bad-migration"}


def planted() -> dict[str, str]:
    """Name → docstring of each defect function, read without importing Flask."""
    tree = ast.parse((RECALL / "defects.py").read_text())
    return {
        node.name.replace("_", "-"): ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "defect" for mark in node.decorator_list)
    }


def test_each_named_defect_exists_and_each_that_exists_is_named() -> None:
    """The catalog lists exactly the defects that the service implements."""
    assert set(planted()) | NO_CODE == set(DEFECTS)
    assert not set(planted()) & NO_CODE


def test_each_defect_says_what_it_is() -> None:
    """Every defect has a docstring and a one-line description."""
    assert all(planted().values())
    assert all(defect.about and "\n" not in defect.about for defect in DEFECTS.values())


@pytest.mark.parametrize(
    ("seen", "least"), [(Seen.BEFORE_TRAFFIC, 15), (Seen.NEVER, 5), (Seen.UNDER_TRAFFIC, 4)]
)
def test_there_are_enough_of_each_kind(seen: Seen, least: int) -> None:
    """The catalog has enough bad releases, and enough good ones that look bad."""
    assert Counter(defect.seen for defect in DEFECTS.values())[seen] >= least
