"""Find `cutover.toml` and resolve its paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.core.config import CONFIG_PATHS, find_config, load_config

TOML = 'project = "p"\n[colors.blue]\nenv_file = ".env.blue"\n'


@pytest.mark.parametrize("name", CONFIG_PATHS)
def test_reports_lie_beside_the_file_unless_it_says_otherwise(tmp_path: Path, name: str) -> None:
    """The default reports folder is beside the file; the file and CUTOVER_REPORTS override it."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOML)
    found = find_config(None, {}, tmp_path)
    assert load_config(found).reports == path.resolve().parent / "reports"
    path.write_text('reports = "../reports"\n' + TOML)
    assert load_config(found).reports == path.resolve().parent.parent / "reports"
    assert load_config(found, {"CUTOVER_REPORTS": "/elsewhere"}).reports == Path("/elsewhere")


def test_the_shipped_file_reports_at_the_top_of_the_repository() -> None:
    """A session writes its reports to the top of the repository and not to `deploy/`."""
    root = Path(__file__).parents[3]
    assert load_config(root / "deploy" / "cutover.toml").reports == root / "reports"
