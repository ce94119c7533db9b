#!/bin/sh
# putback.sh PROJECT SERVICE ID WORDS...: unless the service's only container is ID and runs, take all away and run the words
set -eu
project=$1 service=$2 id=$3; shift 3
ours() { docker ps --no-trunc --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False "$@"; }
# Compose creates the new container before it stops the old one: with ID alone there, no stop can be pending.
all=$(ours --all) # an engine that does not answer ends this here
if [ -n "$id" ] && [ "$all" = "$id" ] && [ "$(ours --filter status=running)" = "$id" ]; then exit 0; fi
for each in $all; do timeout -k 5 30 docker stop "$each" >/dev/null || :; docker rm --force "$each" >/dev/null; done
exec "$@"
