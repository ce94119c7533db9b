#!/bin/sh
# answers.sh PORT PATH: whether http://127.0.0.1:PORT/PATH is answered within 2 s, by a status below 500; needs no engine.
# A connection alone says nothing: what publishes a port for the engine also accepts it for a service that hangs.
set -eu
port=$1 path=$2 status=
if command -v curl >/dev/null; then
  status=$(curl --disable --silent --noproxy '*' --max-time 2 --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$port$path") || exit 1
elif command -v bash >/dev/null; then # shellcheck disable=SC2016  # bash expands it
  status=$(timeout 2 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" "$2" >&3 && read -r _ status _ <&3 && echo "$status"' bash "$port" "$path" 2>/dev/null) || exit 1
elif timeout 2 wget -q -O /dev/null "http://127.0.0.1:$port$path" 2>/dev/null; then
  status=200
fi
case $status in [1-4]??) ;; *) exit 1 ;; esac
