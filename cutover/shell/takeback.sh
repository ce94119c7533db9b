#!/bin/sh
# takeback.sh STATE ID: take that release back, once; safe to run again, and by anybody
set -eu; umask 077; trap '' INT TERM HUP
state=$1 id=$2
exec 9>>"$state/hand"; flock 9
[ "$(cat "$state/open" 2>/dev/null)" = "$id" ] || exit 0
if [ -f "$state/undo.sh" ]; then sh -eu "$state/undo.sh"; fi
mv "$state/open" "$state/closed.$id"; rm -f "$state/NEEDS_PERSON"; sync "$state"
