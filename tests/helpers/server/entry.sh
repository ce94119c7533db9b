#!/bin/sh
# Init process of the server container: sshd, nginx and a Docker engine of its own.
set -eu
# Without --privileged the cgroup file systems are mounted read-only; a bind remount makes them writable.
mount -o remount,bind,rw /sys/fs/cgroup
for group in /sys/fs/cgroup/*; do mount -o remount,bind,rw "$group" 2>/dev/null || :; done
# After a restart the recorded process ids are stale and may belong to other processes.
rm -f /run/docker.pid /run/docker/containerd/containerd.pid /run/nginx.pid
/usr/sbin/sshd -e
if [ -e /etc/nginx/conf.d/cutover.conf ]; then nginx; fi
# Restart the engine when it dies, as systemd would; the file delays the restart.
while :; do
    dockerd --storage-driver=overlay2 --log-level=error || :
    while [ -e /run/engine-stays-down ]; do sleep 0.2; done
    rm -f /run/docker.pid
done
