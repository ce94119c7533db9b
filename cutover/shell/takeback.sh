#!/bin/sh
# takeback.sh STATE ID: take that release back, once; safe to run again, and by anybody. It says so only if it did it
set -eu; umask 077; trap '' INT TERM HUP
state=$1 id=${2:?}
exec 9>>"$state/hand"
flock -w "${CUTOVER_HAND_S:-600}" 9 || { echo "a step of $id still runs: see fuser $state/hand" >&2; exit 1; }
[ "$(cat "$state/open" 2>/dev/null)" = "$id" ] || exit 0
sh -eu "$state/undo.sh"
mv "$state/open" "$state/closed.$id"; rm -f "$state/NEEDS_PERSON"; sync "$state"; echo "taken back: $id" || :
