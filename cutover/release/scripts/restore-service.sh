#!/bin/sh
# restore-service.sh PROJECT SERVICE ID WORDS...: unless the service's only container is ID and runs, take all away and run the words
set -eu
project=$1 service=$2 id=$3; shift 3
note="$(dirname "$0")/put-back.$project.$service"
ours() { docker ps --no-trunc --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False "$@"; }
all=$(ours --all) # an engine that does not answer ends this here
# Compose creates the new container before it stops the old one: with ID alone there, no stop can be pending.
# What was put back in place of ID is as good: when a later line fails, this one runs again every few seconds.
# Who died half-way through the line below may have left a stop pending, though.
if [ -n "$id" ] && [ ! -e "$note.half" ] && [ "$(ours --filter status=running)" = "$all" ]; then
  if [ "$all" = "$id" ] || [ "$id $all" = "$(cat "$note" 2>/dev/null)" ]; then exit 0; fi
fi
true 2>/dev/null >"$note.half" || : # not `:`, with which a full disk would end this shell
# By its own stop_grace_period: who calls this bounds it.
for each in $all; do docker stop "$each" >/dev/null || :; docker rm --force "$each" >/dev/null; done
"$@"
echo "$id $(ours --all)" 2>/dev/null >"$note" || :
rm -f "$note.half"
