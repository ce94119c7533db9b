#!/bin/sh
# ensure-running.sh PROJECT SERVICE COMMAND...: run COMMAND, which starts the service, unless it runs and is
# healthy or has no HEALTHCHECK.
# If COMMAND fails, a container that ran before and still runs is enough: it may be unhealthy because of a shared
# database, and traffic must go back to it all the same.
set -eu
project=$1 service=$2; shift 2
ours() { timeout -k 5 20 docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service" --filter label=com.docker.compose.oneoff=False --filter status=running "$@" || { if [ $? -ge 124 ]; then echo "docker ps: no answer within 20 s" >&2; fi; exit 1; }; }
# Each answer is assigned on its own, because a question that fails within a condition would read as "none".
before=$(ours); well=$(ours --filter health=healthy --filter health=none)
if [ -n "$well" ]; then exit 0; fi
if "$@"; then exit 0; fi
after=$(ours)
if [ -z "$before" ] || [ -z "$after" ]; then exit 1; fi
echo "note: $service of $project runs but is not healthy, as before"
