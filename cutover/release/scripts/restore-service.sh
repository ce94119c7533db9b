#!/bin/sh
# restore-service.sh PROJECT SERVICE ID COMMAND...: unless the only container of the service is ID and runs, remove all
# its containers and run COMMAND, which starts the service. An empty ID means that the service did not run before.
set -eu
project=$1 service=$2 id=$3; shift 3
note="$(dirname "$0")/put-back.$project.$service"
ours() { docker ps --no-trunc --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False "$@"; }
all=$(ours --all) # exits here if the engine does not answer
# Compose creates the new container before it stops the old one: if only ID exists, no stop can be pending.
# A container that this script started in place of ID counts as well, because the guard runs the whole undo again if a
# later line of it fails. After a run that was killed half-way ($note.half exists) a stop may still be pending.
if [ -n "$id" ] && [ ! -e "$note.half" ] && [ "$(ours --filter status=running)" = "$all" ]; then
  if [ "$all" = "$id" ] || [ "$id $all" = "$(cat "$note" 2>/dev/null)" ]; then exit 0; fi
fi
true 2>/dev/null >"$note.half" || : # not `:`, a special built-in: its failed redirection would end this shell
# `docker stop` waits for the stop_grace_period of the container; the caller of this script limits the time.
for each in $all; do docker stop "$each" >/dev/null || :; docker rm --force "$each" >/dev/null; done
"$@"
echo "$id $(ours --all)" 2>/dev/null >"$note" || :
rm -f "$note.half"
