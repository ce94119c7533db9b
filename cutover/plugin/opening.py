"""What a session is opened with: its settings, and the folder of its report."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cutover.core import config as settings_module
from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.plugin.options import SETTINGS
from cutover.wish import ReleaseRequest


def settings_for(config: pytest.Config, request: ReleaseRequest) -> Settings | None:
    """The settings, read once; None for plain URLs where no cutover.toml is found nor named."""
    if SETTINGS in config.stash:
        return config.stash[SETTINGS]
    given = config.option.cutover_config
    try:
        path = settings_module.find_config(given, os.environ, config.invocation_params.dir)
    except ConfigError:
        if given is None and only_urls(request):
            return None
        raise
    config.stash[SETTINGS] = settings_module.load_config(path, os.environ)
    return config.stash[SETTINGS]


def only_urls(request: ReleaseRequest) -> bool:
    """Whether nothing but plain URLs is asked, and nothing changed."""
    from cutover import scene  # heavy, and a release that is turned away at once needs none

    return not request.changes_something and all(scene.is_url(name) for name in request.targets)


def report_folder(settings: Settings | None, request: ReleaseRequest) -> Path:
    """`reports/<utc>-<target>-<tag>`; raises ConfigError where it cannot be written."""
    root = settings.reports if settings else Path(os.environ.get("CUTOVER_REPORTS", "reports")).absolute()
    _require_writable(root, f"reports folder {root}")
    name = "".join(
        each if each.isalnum() or each in "-." else "-"
        for each in f"{request.targets[0].split('://')[-1]}-{request.deploy or 'gate'}"
    )
    stem = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}"
    return next(
        each
        for each in (root / f"{stem}{'' if not n else f'-{n}'}" for n in range(1000))
        if not each.exists()
    )


def require_places(config: pytest.Config) -> None:
    """Raise ConfigError where `--html` or `--junitxml` names what cannot be written, before anything is released."""
    for name, option in (("htmlpath", "--html"), ("xmlpath", "--junitxml")):
        given = getattr(config.option, name, None)
        if not given:
            continue
        path = Path(os.path.expandvars(given)).expanduser()
        if path.is_dir():
            raise ConfigError(f"{option}={given}: it is a folder, and must be a file")
        _require_writable(path.parent, f"{option}={given}")


def _require_writable(folder: Path, what: str) -> None:
    """Make *folder*, and write there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{what} cannot be written: {error.strerror}") from error
