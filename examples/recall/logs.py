"""One JSON object per line, also for what gunicorn and libraries say."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """A record as one line; a traceback is a field, never lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the time, the level, the logger and the message, then what the caller added."""
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
    """Log as JSON lines: a server on stdout, a command on stderr, where they do not mix with its answer."""
    handler = logging.StreamHandler(sys.stdout if serving else sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
