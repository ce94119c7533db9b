#!/bin/sh
# count_in_flight.sh DOOR DOOR_NUMBER PORT: how many connections there are to PORT of a color; DOOR and PORT in hexadecimal
# digits, as in the kernel's table, which has local address, remote address and state. 0A listens; the others are those
# of IN_FLIGHT in drain.py. Prints `unseen` if nobody listens at DOOR, where the proxy should, or if a docker-proxy does:
# it forwards to a network that the host does not see.
sockets=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
doors=$(echo "$sockets" | grep -Ec ": [0-9A-F]+:$1 [0-9A-F]+:0000 0A ")
# [t]: not this command itself
published=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -c -- "-host-por[t] $2 ")
if [ "$doors" -eq 0 ] || [ "$published" -gt 0 ]; then echo unseen; exit; fi
echo "$sockets" | grep -Ec " [0-9A-F]+:$3 0[128] " || :
