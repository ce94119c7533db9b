#!/bin/sh
# step.sh STATE ID BUDGET COMMAND...: run COMMAND, one change of the release ID, after its undo is on disk.
set -eu; umask 077
state=$1 id=${2:?} budget=$3; shift 3
exec 9>>"$state/step.lock"; flock 9
text() { cat "$1" 2>/dev/null || [ ! -e "$1" ] || { echo "$1 cannot be read" >&2; exit 1; }; }
open=$(text "$state/open")
[ "$open" = "$id" ] || exit 75
sync "$state/undo.new"; mv "$state/undo.new" "$state/undo.sh"; sync "$state"
exec timeout -k 10 "$budget" "$@"
