#!/bin/sh
# The first process in a machine's namespaces: it gives the machine a network, a root file system and a few devices, stands for its
# boot loader, and becomes its init. All it needs comes as variables:
#
# NAME      the host name
# LAYERS    the read-only layers of the root file system, topmost first, with colons between them
# DISK      the folder of the writable layer, which outlives the machine
# BINARY    a program that appears as /opt/muster/bin/muster
# SHARE     a folder that appears as /share, or nothing
# PORT      the name of its end of the cable in the hub's network, or nothing for a machine without a network
# ADDRESS   its address, with the length of the prefix
# HUB       the process whose network has the bridge
# LINK      up or down: how the cable begins
set -eu

if [ -n "$PORT" ]; then
  bridge() { nsenter --net="/proc/$HUB/ns/net" ip link set "$PORT" "$@"; }
  ip link add eth0 type veth peer name "$PORT" netns "/proc/$HUB/ns/net"
  bridge master hub
  bridge "$LINK"
  ip addr add "$ADDRESS" dev eth0
  ip link set eth0 up
fi
ip link set lo up

root=$DISK/root
mkdir -p "$root" "$DISK/upper" "$DISK/work"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LAYERS,upperdir=$DISK/upper,workdir=$DISK/work" "$root"
mount -t proc proc "$root/proc"
cat /proc/sys/kernel/random/uuid > "$DISK/boot_id"
mount --bind "$DISK/boot_id" "$root/proc/sys/kernel/random/boot_id"
# The kernel is shared: nothing in here may set its parameters or see to its devices.
mount --rbind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/opt/muster/bin"
touch "$root/opt/muster/bin/muster"
mount --bind "$BINARY" "$root/opt/muster/bin/muster"
if [ -n "$SHARE" ]; then
  mkdir -p "$root/share"
  mount --bind "$SHARE" "$root/share"
fi

# The boot loader: what its default names is the system that comes up.
if default=$(readlink "$root/boot/default"); then
  ln -s "$default" "$root/run/booted-system"
  ln -s "$default" "$root/run/current-system"
  mkdir -p "$root/run/systemd/system/multi-user.target.wants"
  ln -s "$default/etc/systemd/system/demo.service" "$root/run/systemd/system/demo.service"
  ln -s ../demo.service "$root/run/systemd/system/multi-user.target.wants/demo.service"
  chroot "$root" "$default/bin/set-agent"
fi

cd "$root"
mkdir -p .below
pivot_root . .below
umount -l /.below
# As on a machine: what systemd mounts for a unit, such as its credentials, must appear in the unit's own view too.
mount --make-rshared /
hostname "$NAME"
exec env -i container=muster HOME=/root PATH=/usr/sbin:/usr/bin "$@" </dev/null
