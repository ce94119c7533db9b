#!/bin/sh
# guard.sh STATE ID MAX: wait until the session has ended (at most MAX seconds), then revert its release if it is open.
# A release that is held, as STATE/held says, is reverted at its deadline.
trap '' INT TERM HUP
state=$1 id=${2:?} max=$3 i=0 held=''
flock -w "$max" "$state/session.lock" true || :
if true 2>/dev/null >>"$state/guard.log"; then exec >>"$state/guard.log" 2>&1; fi # on a full disk go on without a log
# Within one boot the uptime decides, which no step of the clock moves; after a reboot the clock.
hold_lasts() {
  { read -r held; } 2>/dev/null <"$state/held" || held=''
  case $held in "$id "*) ;; *) return 1 ;; esac
  if [ "$(cat "$state/open" 2>/dev/null)" != "$id" ]; then return 1; fi
  read -r up _ </proc/uptime
  echo "$held" | { read -r _ until boot begun end
    if [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] && [ "${up%.*}" -ge "$begun" ]; then [ "${up%.*}" -lt "$end" ]; else [ "$(date +%s)" -lt "$until" ]; fi; }
}
# For hours, maybe: two guards start each other again, each known by its lock.
hold() {
  other=2; exec 8>>"$state/guard.1"
  if ! flock -n 8; then other=1; exec 8>>"$state/guard.2"; flock -n 8 || exit 0; fi
  while hold_lasts; do
    if flock -n "$state/guard.$other" true 8>&-; then setsid sh "$state/guard.sh" "$state" "$id" 0 8>&- & fi
    sleep 1 8>&-
  done
}
while [ -e "$state/revert.sh" ]; do # without its state it can do nothing
  if hold_lasts; then hold; fi
  if sh "$state/revert.sh" "$state" "$id" "$held"; then break; fi
  i=$((i + 1)); if [ "$i" -ge "${CUTOVER_GUARD_TRIES:-120}" ]; then break; fi; sleep "${CUTOVER_GUARD_PAUSE_S:-5}"
done
if [ "$(cat "$state/open" 2>/dev/null)" = "$id" ]; then echo "$id" >"$state/NEEDS_OPERATOR"; fi
