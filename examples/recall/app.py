"""The application: ``gunicorn recall.app:app``, ``flask --app recall.app db upgrade``."""

from __future__ import annotations

import os

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from . import defects, logs, settings, store, watching
from .api import api
from .outside import Cache, Model


def create() -> Flask:
    """Create the app. No dependency is contacted yet, so a missing database does not crash the start."""
    told = settings.read(os.environ)
    # Migrations run in a one-off container of the same image, where the defect must not be active.
    serving = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    logs.set_up(serving=serving)
    app = Flask("recall")
    app.config["RECALL"] = told
    app.extensions["recall_cache"] = Cache(told.redis_url)
    app.extensions["recall_model"] = Model(told.ai_endpoint)
    store.connect(app, told)
    watching.watch(app, told)
    app.register_blueprint(api)
    app.register_error_handler(HTTPException, _explain)
    if serving:
        defects.plant(app, told)
    return app


def _explain(error: HTTPException) -> tuple[Response, int]:
    return jsonify(error=error.description), error.code or 500


app = create()
