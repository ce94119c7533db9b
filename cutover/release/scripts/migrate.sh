#!/bin/sh
# migrate.sh NAME COMMAND...: run COMMAND, which starts the container NAME; print its log, exit with its code.
set -eu
name=$1; shift
docker rm "$name" >/dev/null 2>&1 || : # removes a stopped container; a running one stays, and COMMAND then fails
"$@" >/dev/null
code=$(docker wait "$name")
docker logs "$name"
exit "$code"
