#!/bin/sh
# Initialize the database if the volume is empty, then run the server.
set -eu
umask 077
: "${POSTGRES_PASSWORD:?say POSTGRES_PASSWORD: a database without one is not started}"
user=${POSTGRES_USER:-postgres}
name=${POSTGRES_DB:-$user}
if [ ! -e "$PGDATA" ]; then
    # Initialize in a temporary directory and rename it when complete: an interrupted start leaves no partial data.
    new=$(dirname "$PGDATA")/partial
    rm -rf "$new"
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --pgdata="$new" --username="$user" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    # Listen only on a Unix socket during initialization.
    pg_ctl --pgdata="$new" --wait --options='-c listen_addresses= -c unix_socket_directories=/tmp' start
    [ "$name" = postgres ] || PGPASSWORD=$POSTGRES_PASSWORD createdb --host=/tmp --username="$user" "$name"
    pg_ctl --pgdata="$new" --wait --mode=fast stop
    mv "$new" "$PGDATA"
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
