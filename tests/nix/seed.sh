# Makes a root file system into that of a machine with NixOS's ways: Nix with a daemon and a cache that it trusts, and a first
# system in its profile and its boot loader. $1: that system, as system.nix takes it; $2: the address of the cache.
PATH=/usr/sbin:/usr/bin
nix-store --generate-binary-cache-key tests-1 /share/trusted.key /share/trusted.pub
nix-store --generate-binary-cache-key strangers-1 /share/strange.key /share/strange.pub
mkdir -p /etc/nix /boot /var/log/journal
cat > /etc/nix/nix.conf <<CONF
build-users-group =
connect-timeout = 5
download-attempts = 1
experimental-features = nix-command
narinfo-cache-negative-ttl = 0
sandbox = false
substituters = $2
trusted-public-keys = $(cat /share/trusted.pub)
CONF

units=/etc/systemd/system
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer console-getty.service getty@tty1.service \
  ldconfig.service systemd-firstboot.service systemd-journal-catalog-update.service systemd-logind.service \
  systemd-update-done.service; do
  ln -sf /dev/null $units/$unit
done
mkdir -p $units/sockets.target.wants $units/multi-user.target.wants
cat > $units/nix-daemon.socket <<UNIT
[Unit]
Description=Nix Daemon Socket
[Socket]
ListenStream=/nix/var/nix/daemon-socket/socket
UNIT
cat > $units/nix-daemon.service <<UNIT
[Unit]
Description=Nix Daemon
[Service]
ExecStart=/usr/bin/nix-daemon --daemon
UNIT
ln -s ../nix-daemon.socket $units/sockets.target.wants/

first=$(nix-build --no-out-link --option substitute false /share/system.nix --argstr systems "$1")
nix-env --profile /nix/var/nix/profiles/system --set "$first"
ln -s "$first" /boot/default
echo "$first"
