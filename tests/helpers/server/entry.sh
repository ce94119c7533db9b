#!/bin/sh
# The first process of the server: sshd and nginx beside an engine of its own.
set -eu
# Without --privileged the control groups are read-only; a bind remount is what makes them writable.
mount -o remount,bind,rw /sys/fs/cgroup
for group in /sys/fs/cgroup/*; do mount -o remount,bind,rw "$group" 2>/dev/null || :; done
# After a restart, as after a reboot: the first process has the number that dockerd wrote down before.
rm -f /run/docker.pid /run/docker/containerd/containerd.pid /run/nginx.pid
/usr/sbin/sshd -e
if [ -e /etc/nginx/conf.d/cutover.conf ]; then nginx; fi
# An engine that dies is started again, as a unit of systemd does it; the file says: not yet.
while :; do
    dockerd --storage-driver=overlay2 --log-level=error || :
    while [ -e /run/engine-stays-down ]; do sleep 0.2; done
    rm -f /run/docker.pid
done
