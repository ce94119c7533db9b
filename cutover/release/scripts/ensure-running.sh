#!/bin/sh
# ensure-running.sh PROJECT SERVICE WORDS...: unless the service runs and is not unhealthy, run the words that start it
# One that ran before and still runs is enough: what makes it unhealthy (a shared database) is no reason to stay away.
set -eu
project=$1 service=$2; shift 2
ours() { docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False --filter status=running "$@"; }
if [ -n "$(ours --filter health=healthy --filter health=none)" ]; then exit 0; fi
before=$(ours)
if "$@"; then exit 0; fi
if [ -z "$before" ] || [ -z "$(ours)" ]; then exit 1; fi
echo "note: $service of $project runs but is not healthy, as before"
