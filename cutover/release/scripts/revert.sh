#!/bin/sh
# revert.sh STATE ID: revert the release ID if it is open. Safe to run again; prints "reverted: ID" if it did the revert.
set -eu; umask 077; trap '' INT TERM HUP
state=$1 id=${2:?}
exec 9>>"$state/step.lock"
flock -w "${CUTOVER_STEP_LOCK_S:-600}" 9 || { echo "a step of $id still runs: see fuser $state/step.lock" >&2; exit 1; }
[ "$(cat "$state/open" 2>/dev/null)" = "$id" ] || exit 0
# A part of an undo would end well, and the release would be closed with the rest not undone.
case $(cat "$state/undo.sh") in *"# end of the undo") ;; *) echo "$state/undo.sh is not complete, so nothing was undone: its last line must be '# end of the undo'" >&2; exit 1 ;; esac
sh -eu "$state/undo.sh"
rm -f "$state/unrecorded.json" # of a commit that did not happen
mv "$state/open" "$state/closed.$id"; rm -f "$state/NEEDS_OPERATOR"; sync "$state"; echo "reverted: $id" || :
