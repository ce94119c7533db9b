#!/bin/sh
# entrypoint.sh COMMAND...: process 1 of the image. The guard of a session is killed with its container, so this
# process does the guard's work: after pytest has ended it reverts a release that was left open.
set -u
"$@" <&0 & session=$!
trap 'kill -TERM "$session" 2>/dev/null || :' TERM INT HUP
wait "$session"; code=$?
# A signal interrupts `wait`, so wait until the session has really ended.
while kill -0 "$session" 2>/dev/null; do wait "$session"; code=$?; done
[ "$1" = pytest ] || exit "$code"
said=$(cutover recover 2>&1); recovered=$?
case $recovered:$said in 4:*|"0:nothing is open"*) ;; *) echo "$said" >&2 ;; esac
if [ "$recovered" = 11 ]; then exit 11; fi
exit "$code"
