"""Where `cutover.toml` is found, and what its paths mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.settings import WHERE_TO_LOOK, find, load

TOML = 'project = "p"\n[colours.blue]\nenv_file = ".env.blue"\n'


@pytest.mark.parametrize("name", WHERE_TO_LOOK)
def test_reports_lie_beside_the_file_unless_it_says_otherwise(tmp_path: Path, name: str) -> None:
    """Wherever it is found, nothing is written outside of the repository."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOML)
    found = find(None, {}, tmp_path)
    assert load(found).reports == path.resolve().parent / "reports"
    path.write_text('reports = "../reports"\n' + TOML)
    assert load(found).reports == path.resolve().parent.parent / "reports"
    assert load(found, {"CUTOVER_REPORTS": "/elsewhere"}).reports == Path("/elsewhere")


def test_the_shipped_file_reports_at_the_top_of_the_repository() -> None:
    """`deploy/` holds what is deployed, and nothing that a session writes."""
    root = Path(__file__).parents[2]
    assert load(root / "deploy" / "cutover.toml").reports == root / "reports"
