#!/bin/sh
# Handle `systemctl reload nginx` without a running systemd; pass every other call to systemctl.
set -eu
case $* in
    "reload nginx") if [ -s /run/nginx.pid ]; then exec nginx -s reload; else exec nginx; fi ;;
    *) exec /usr/bin/systemctl "$@" ;;
esac
