#!/bin/sh
# Make the database on an empty volume, then serve it.
set -eu
umask 077
: "${POSTGRES_PASSWORD:?say POSTGRES_PASSWORD: a database without one is not started}"
user=${POSTGRES_USER:-postgres}
if [ ! -e "$PGDATA/ready" ]; then
    # Whatever a killed first start left has no data in it yet.
    find "$PGDATA" -mindepth 1 -delete
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="$user" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    # Nobody reaches it before it is whole: no address, a socket of its own.
    pg_ctl --wait --options='-c listen_addresses= -c unix_socket_directories=/tmp' start
    [ "${POSTGRES_DB:-$user}" = postgres ] || PGPASSWORD=$POSTGRES_PASSWORD createdb --host=/tmp --username="$user" "${POSTGRES_DB:-$user}"
    pg_ctl --wait --mode=fast stop
    touch "$PGDATA/ready"
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
