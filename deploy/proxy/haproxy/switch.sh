#!/bin/sh
# switch.sh [blue|green]: prints the live color; with an argument, makes that color live first. Needs socat.
set -eu
map=/etc/haproxy/live.map
socket=/run/haproxy/admin.sock
tell() { printf '%s\n' "$1" | socat -t 5 - "UNIX-CONNECT:$socket"; }
live() { shown=$(tell "show map $map") && printf '%s\n' "$shown" | sed -n 's/.* live //p'; }

if [ $# -gt 0 ]; then
    case $1 in blue | green) ;; *) echo "usage: $0 [blue|green]" >&2; exit 64 ;; esac
    # Switch the traffic first, then write the file that HAProxy reads at its next start.
    tell "set map $map live $1" >/dev/null
    # socat exits with 0 even if the response is "entry not found", so read the value back.
    [ "$(live)" = "$1" ] || { echo "HAProxy did not take $1: when it started, $map had no line 'live COLOR'" >&2; exit 1; }
    printf 'live %s\n' "$1" >"$map.new"
    mv "$map.new" "$map"
fi
live
