"""How gunicorn serves recall."""

import os

wsgi_app = "recall.app:app"
bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
# One process: its counters are the service's counters, and its memory is what a leak shows in.
workers = 1
worker_class = "gthread"
threads = 16
# Longer than a proxy keeps its connections idle (nginx: 60 s), so that the proxy closes first:
# the other way round a request meets a connection that is just being closed.
keepalive = 75
# Below stop_grace_period, so that requests in flight end before the engine kills.
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
        # The app says it itself, as one line of JSON.
        "gunicorn.access": {"handlers": [], "propagate": False},
    },
}
