"""gunicorn configuration of recall."""

import os

wsgi_app = "recall.app:app"
bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
# One process, so that its counters are the service's counters and a leak shows in its memory.
workers = 1
worker_class = "gthread"
threads = 16
# Longer than the idle timeout of the proxy's upstream connections (nginx: 60 s). Otherwise gunicorn could
# close a connection just as the proxy sends a request on it.
keepalive = 75
# Below stop_grace_period, so that requests in flight finish before the engine sends SIGKILL.
graceful_timeout = 8
timeout = 150
worker_tmp_dir = "/dev/shm"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "recall.logs.JsonLines"}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
    },
    "root": {"level": "INFO", "handlers": ["stdout"]},
    "loggers": {
        "gunicorn.error": {"handlers": [], "propagate": True},
        # The app logs each request itself, as one JSON line.
        "gunicorn.access": {"handlers": [], "propagate": False},
    },
}
