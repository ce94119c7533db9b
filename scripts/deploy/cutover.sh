#!/bin/sh
# The whole cutover, `cutover release`: deploy to the idle color, gate, switch, verify, gate again, watch.
# usage: cutover.sh --image-tag TAG [pytest options]
set -eu
case ${1-}:${2-} in
    --image-tag:?*) ;;
    *) echo "usage: cutover.sh --image-tag TAG [--watch=DURATION]" >&2; exit 4 ;;
esac
cd "$(dirname "$0")/../.."
python=python3
if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
exec "$python" -m cutover release "$@"
