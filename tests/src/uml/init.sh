#!/bin/sh
# The first program of a machine in user-mode Linux: one host with its agent, whose folder lies on the machine's own disk. What
# it tells goes to the console, one line each, through one program, so that lines stay whole.
#
# HOST      the host's folder, which the disk begins as and then lies over
# PROGRAM   the program under test
# FIRST     how many there is of releases that were published before
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
ip link set lo up
if ! mount -t ext4 /dev/ubda "$HOST"; then
  # Only a disk that has nothing on it yet may be written anew.
  [ "$FIRST" = 0 ] || exit 1
  mkfs.ext4 -q /dev/ubda
  mount -t ext4 /dev/ubda /mnt
  cp -a "$HOST/." /mnt
  umount /mnt
  mount -t ext4 /dev/ubda "$HOST" || exit 1
fi
cd "$HOST" || exit 1
unset RUST_LOG
export MUSTER_SOCKET="$HOST/muster.sock"

# Nobody asks for this file to be on the disk.
echo "said unsynced $(stat -c %s unsynced 2>/dev/null || echo 0)"
rm -f unsynced
sync
head -c 10000 /dev/zero > unsynced
sed 's/^/said ran /' root/runs.log 2>/dev/null
if [ -e state/muster.redb ]; then
  "$PROGRAM" store verify --store state/muster.redb > verified 2>&1
  echo "said verify $?"
  sed 's/^/verify: /' verified
fi

"$PROGRAM" agent --config muster.toml > log 2>&1 &
until "$PROGRAM" status > status 2>&1; do sleep 0.1; done
echo "said up"
{
  "$PROGRAM" events --follow --json --since 24h | sed -u 's/^/said event /' &
  [ "$FIRST" != 0 ] || "$PROGRAM" publish ../fleet.json
  number=$FIRST
  while [ -e "../r$number.json" ]; do
    "$PROGRAM" publish "../r$number.json" && echo "said published $number"
    "$PROGRAM" rollout watch "stable@r$number" > watched 2>&1
    echo "said watched $number $?"
    number=$((number + 1))
  done
} 2>&1 | cat
exec sleep infinity
