#!/bin/sh
# revert.sh STATE ID [HOLD]: revert the release ID if it is open. Safe to run again; prints "reverted: ID" if it did the
# revert. A guard names the first line of STATE/held that it knows: a release that is held since then is not reverted.
set -eu; umask 077; trap '' INT TERM HUP
state=$1 id=${2:?}
exec 9>>"$state/step.lock"
flock -w "${CUTOVER_STEP_LOCK_S:-600}" 9 || { echo "a step of $id still runs: see fuser $state/step.lock" >&2; exit 1; }
# What cannot be read is not what is not there: the release would be taken for closed.
text() { cat "$1" 2>/dev/null || [ ! -e "$1" ] || { echo "$1 cannot be read" >&2; exit 1; }; }
open=$(text "$state/open")
[ "$open" = "$id" ] || exit 0
if [ $# -ge 3 ] && { read -r held || held=''; } 2>/dev/null <"$state/held" && [ "$held" != "$3" ]; then echo "$id is held meanwhile" >&2; exit 1; fi
# A part of an undo would end well, and the release would be closed with the rest not undone.
case $(cat "$state/undo.sh") in *"# end of the undo") ;; *) echo "$state/undo.sh is not complete, so nothing was undone: its last line must be '# end of the undo'" >&2; exit 1 ;; esac
sh -eu "$state/undo.sh"
# Of a commit that did not happen. Another release's is of a session that died after its commit, and is completed later.
left=$(text "$state/unrecorded.json")
case $left in *"\"release\": \"$id\""*) rm -f "$state/unrecorded.json" ;; esac
mv "$state/open" "$state/closed.$id"; rm -f "$state/NEEDS_OPERATOR" "$state/held"; sync "$state"; echo "reverted: $id" || :
