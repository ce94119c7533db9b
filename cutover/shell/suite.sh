#!/bin/sh
# suite.sh WORDS...: the first process of the suite's container; its guard ends with it, so it has the guard's duty
set -u
"$@" <&0 & session=$!
trap 'kill -TERM "$session" 2>/dev/null || :' TERM INT HUP
wait "$session"; code=$?
while kill -0 "$session" 2>/dev/null; do wait "$session"; code=$?; done
[ "$1" = pytest ] || exit "$code"
said=$(cutover recover 2>&1); recovered=$?
case $recovered:$said in 4:*|"0:nothing is open"*) ;; *) echo "$said" >&2 ;; esac
if [ "$recovered" = 11 ]; then exit 11; fi
exit "$code"
