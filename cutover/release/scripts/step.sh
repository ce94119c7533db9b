#!/bin/sh
# step.sh STATE ID BUDGET WORDS...: run one change under the step lock; what reverts it is made durable first
set -eu; umask 077
state=$1 id=${2:?} budget=$3; shift 3
exec 9>>"$state/step.lock"; flock 9
[ "$(cat "$state/open" 2>/dev/null)" = "$id" ] || exit 75
sync "$state/undo.new"; mv "$state/undo.new" "$state/undo.sh"; sync "$state" # nothing is done whose undo is not there
exec timeout -k 10 "$budget" "$@"
