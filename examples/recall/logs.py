"""JSON Lines logging, also for gunicorn and libraries."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Format a record as one JSON object per line; a traceback becomes a field."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger, message and the caller's extra fields as JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "msg": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exc"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(*, serving: bool) -> None:
    """Log JSON Lines: a server to stdout, a command to stderr so that logs do not mix with its output."""
    handler = logging.StreamHandler(sys.stdout if serving else sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
