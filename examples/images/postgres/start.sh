#!/bin/sh
# Make the database on an empty volume, then serve it.
set -eu
umask 077
: "${POSTGRES_PASSWORD:?say POSTGRES_PASSWORD: a database without one is not started}"
user=${POSTGRES_USER:-postgres}
name=${POSTGRES_DB:-$user}
if [ ! -e "$PGDATA" ]; then
    # Made beside its place and moved there when whole: a first start that is killed leaves nothing half done.
    new=$(dirname "$PGDATA")/partial
    rm -rf "$new"
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --pgdata="$new" --username="$user" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    # Nobody reaches it yet: no address, only a socket.
    pg_ctl --pgdata="$new" --wait --options='-c listen_addresses= -c unix_socket_directories=/tmp' start
    [ "$name" = postgres ] || PGPASSWORD=$POSTGRES_PASSWORD createdb --host=/tmp --username="$user" "$name"
    pg_ctl --pgdata="$new" --wait --mode=fast stop
    mv "$new" "$PGDATA"
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
