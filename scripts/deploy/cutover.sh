#!/bin/sh
# The whole cutover: deploy to the idle color, gate, switch, verify, gate again, watch; switch back at the first failure.
# usage: cutover.sh --image-tag TAG [pytest options]
set -eu
case ${1-}:${2-} in
    --image-tag:?*) tag=$2; shift 2 ;;
    *) echo "usage: cutover.sh --image-tag TAG [--watch=DURATION]" >&2; exit 4 ;;
esac
exec "$(dirname "$0")/../session" smoke checks --target=idle "--deploy=$tag" --switch "$@"
