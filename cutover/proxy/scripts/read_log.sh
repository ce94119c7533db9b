#!/bin/sh
# read_log.sh PATH FILE OFFSET MOST: at most MOST bytes of the file PATH after those that were read before.
# FILE is what was read so far (device, inode and birth, because an inode is used again; - if there was none) up to
# OFFSET. At the beginning FILE is empty, and OFFSET is how many of the last bytes are wanted.
# Prints the file that is read, from where, and the clock; then the bytes in base64, because the caller reads text.
export LC_ALL=C
path=$1 read=$2 at=$3 most=$4
id() { stat -L -c '%d:%i:%W %s' -- "$1" 2>&1; }
now=$(id "$path") || case $now in
    *': No such file or directory') now='- 0' ;;
    *) echo "$now" >&2; exit 1 ;;
esac
file=$path found=${now% *} size=${now#* }
if [ "$found" != "$read" ] && [ "${read#-}" ]; then # rotated: first the rest, which has another name
    inode=${read#*:} inode=${inode%:*}
    old=$(find "$(dirname -- "$path")" -maxdepth 1 -inum "$inode" 2>/dev/null | head -n 1)
    rest=$(id "$old") || rest='- 0'
    if [ "${rest% *}" = "$read" ] && { [ "${rest#* }" -gt "$at" ] || [ "$found" = - ]; }; then
        file=$old found=$read size=${rest#* }
    fi
fi
if [ -z "$read" ]; then
    at=$((size > at ? size - at : 0))
elif [ "$found" != "$read" ] || [ "$size" -lt "$at" ]; then
    at=0
fi
echo "$found $at $(date +%s)"
[ "$found" != - ] || exit 0
[ -f "$file" ] || { echo "it is no regular file" >&2; exit 1; }
exec <"$file" || exit 1
most=$((size - at < most ? size - at : most)) block=65536
blocks=$(((at % block + most + block - 1) / block))
# dd, because another tail than that of GNU reads all that comes before
[ "$most" -eq 0 ] || dd bs=$block skip=$((at / block)) count=$blocks 2>/dev/null |
    tail -c +$((at % block + 1)) | head -c "$most" | base64
