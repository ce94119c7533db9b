#!/bin/sh
# `systemctl reload nginx` without a systemd that runs; everything else is systemd's own.
set -eu
case $* in
    "reload nginx") if [ -s /run/nginx.pid ]; then exec nginx -s reload; else exec nginx; fi ;;
    *) exec /usr/bin/systemctl "$@" ;;
esac
