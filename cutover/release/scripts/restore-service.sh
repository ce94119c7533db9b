#!/bin/sh
# restore-service.sh PROJECT SERVICE ID COMMAND...: unless the only container of the service is ID and runs, remove all
# its containers and run COMMAND, which starts the service. An empty ID means that the service did not run before.
set -eu
project=$1 service=$2 id=$3; shift 3
note="$(dirname "$0")/put-back.$project.$service"
ours() { timeout -k 5 20 docker ps --no-trunc --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False "$@" || { if [ $? -ge 124 ]; then echo "docker ps: no answer within 20 s" >&2; fi; exit 1; }; }
# Each answer is assigned on its own, because a question that fails within a condition would read as "not ID", or as "not put back".
text() { cat "$1" 2>/dev/null || [ ! -e "$1" ] || { echo "$1 cannot be read" >&2; exit 1; }; }
all=$(ours --all); noted=$(text "$note")
# Once all containers were removed ($note says in place of which ID), what is there was started by this script: each
# later run of the undo waits for it, however long it takes to get healthy, and never removes it.
if [ -z "$id" ] || [ "$noted" != "$id" ]; then
  running=$(ours --filter status=running)
  # Compose creates the new container before it stops the old one: if only ID exists, no stop can be pending. After a
  # run that was killed half-way ($note.half exists) a stop may still be pending.
  if [ -n "$id" ] && [ ! -e "$note.half" ] && [ "$all" = "$id" ] && [ "$running" = "$id" ]; then exit 0; fi
  true 2>/dev/null >"$note.half" || : # not `:`, a special built-in: its failed redirection would end this shell
  # `docker stop` waits for the stop_grace_period of the container; the caller of this script limits the time.
  for each in $all; do docker stop "$each" >/dev/null || :; docker rm --force "$each" >/dev/null; done
  echo "$id" 2>/dev/null >"$note" || :
fi
rm -f "$note.half"
"$@"
