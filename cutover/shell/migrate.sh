#!/bin/sh
# migrate.sh NAME WORDS...: run the words, which start the container NAME, and end as it ends; it stays for its log
set -eu
name=$1; shift
docker rm "$name" >/dev/null 2>&1 || : # only a stopped one goes; the name of one that runs refuses ours
"$@" >/dev/null
code=$(docker wait "$name")
docker logs "$name"
exit "$code"
