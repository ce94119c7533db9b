#!/bin/sh
# Roll back the open release, else the last switch, else the last deploy; or go to a given release.
# usage: server_rollback.sh [--to-tag TAG] [--json]
set -eu
cd "$(dirname "$0")/../.."
python=python3
if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
exec "$python" -m cutover rollback "$@"
