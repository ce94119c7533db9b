#!/bin/sh
# guard.sh STATE ID MAX: wait until the session has ended (at most MAX seconds), then revert its release if it is open.
trap '' INT TERM HUP
state=$1 id=${2:?} max=$3 i=0
flock -w "$max" "$state/session.lock" true || :
if true 2>/dev/null >>"$state/guard.log"; then exec >>"$state/guard.log" 2>&1; fi # on a full disk go on without a log
while [ -e "$state/revert.sh" ] && ! sh "$state/revert.sh" "$state" "$id"; do # without its state it can do nothing
  i=$((i + 1)); if [ "$i" -ge "${CUTOVER_GUARD_TRIES:-120}" ]; then break; fi; sleep "${CUTOVER_GUARD_PAUSE_S:-5}"
done
if [ "$(cat "$state/open" 2>/dev/null)" = "$id" ]; then echo "$id" >"$state/NEEDS_OPERATOR"; fi
