#!/bin/sh
# restore-stack.sh PROJECT SERVICE ID COMMAND...: run COMMAND, which deploys the stack as it was; the engine replaces only
# tasks that differ. An empty ID means that the service did not run before: remove it, and wait until its tasks are gone
# from all nodes that are up, because they go on serving while they stop.
set -eu
project=$1 service=$2 id=$3; shift 3
# Once more, because the engine pauses an update in which a task of the bad release ends by itself.
if [ -n "$id" ]; then "$@" || exec "$@"; exit 0; fi
ask() { timeout -k 5 20 docker "$@" || { if [ $? -ge 124 ]; then echo "docker $1 $2: no answer within 20 s" >&2; fi; exit 1; }; }
services() { ask service ls --format '{{.Name}}' --filter "label=com.docker.stack.namespace=$project"; }
all=$(services)
if echo "$all" | grep -qx "${project}_$service"; then ask service rm "${project}_$service" >/dev/null; fi
# Each answer is assigned on its own, because a question that fails within a condition would read as "nothing there".
while :; do
  left=$(ask ps --all --quiet --filter "label=com.docker.swarm.service.name=${project}_$service")
  if [ -z "$left" ]; then
    nodes=$(ask node ls --format '{{.Status}} {{.ID}}')
    # shellcheck disable=SC2046  # one word for each node
    tasks=$(ask node ps --no-resolve --format '{{.DesiredState}}' \
      --filter "label=com.docker.stack.namespace=$project" $(echo "$nodes" | sed -n 's/^Ready //p'))
    if ! echo "$tasks" | grep -qx Remove; then break; fi
  fi
  sleep 0.5
done
left=$(services)
if [ -z "$left" ]; then ask stack rm "$project" >/dev/null 2>&1; fi
