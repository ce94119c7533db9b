#!/bin/sh
# Run the smoke tests that need only HTTP against a running service; the other tests are reported as not asked.
# usage: smoke_test.sh URL [pytest options]
set -eu
case ${1-} in
    http*://?*) url=$1; shift ;;
    *) echo "usage: smoke_test.sh URL, like http://127.0.0.1:8001" >&2; exit 4 ;;
esac
exec "$(dirname "$0")/../session" smoke "--target=$url" "$@"
