#!/bin/sh
# revert.sh STATE ID: revert that release, once; safe to run again, and by anybody. It says so only if it did it
set -eu; umask 077; trap '' INT TERM HUP
state=$1 id=${2:?}
exec 9>>"$state/step.lock"
flock -w "${CUTOVER_STEP_LOCK_S:-600}" 9 || { echo "a step of $id still runs: see fuser $state/step.lock" >&2; exit 1; }
[ "$(cat "$state/open" 2>/dev/null)" = "$id" ] || exit 0
sh -eu "$state/undo.sh"
mv "$state/open" "$state/closed.$id"; rm -f "$state/NEEDS_OPERATOR"; sync "$state"; echo "reverted: $id" || :
