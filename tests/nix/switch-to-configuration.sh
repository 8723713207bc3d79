# What switches a machine to a system, in the order of NixOS: the boot loader, then the system, then its units. The two lines above
# say which system this is and how it goes. Every call is written down in /var/log/switches.
export PATH=/usr/sbin:/usr/bin
action=${1:-}

note() {
  echo "$1 $action $top" >> /var/log/switches
}
link() {
  ln -sfn "$1" "$2.new"
  mv -T "$2.new" "$2"
}
wait_at() {
  [ "$waits" = "$1" ] || return 0
  note "waits"
  while [ ! -e /run/gate ]; do sleep 0.05; done
}

case $action in switch | boot | test | dry-activate) ;; *) exit 1 ;; esac
note "began"
[ "$action" != dry-activate ] || exit 0
[ "$action" = boot ] || wait_at first
if [ "$action" != test ]; then
  link "$top" /boot/default
  sync /boot
fi
if [ "$action" = boot ]; then
  note "ended"
  exit 0
fi
wait_at halfway

link "$top" /run/current-system
nft delete table inet severed 2>/dev/null
if [ "$network" = off ]; then
  nft -f - <<'RULES'
    table inet severed {
      chain input { type filter hook input priority 0; policy drop; iif lo accept; }
      chain output { type filter hook output priority 0; policy drop; oif lo accept; }
    }
RULES
  timeout 2 bash -c "true < /dev/tcp/10.77.0.254/8080" 2>/dev/null || note "severed"
fi
link "$top/etc/systemd/system/demo.service" /run/systemd/system/demo.service
"$top/bin/set-agent"
systemctl daemon-reload
systemctl restart demo.service
for unit in $restarts; do systemctl restart "$unit"; done
note "ended"
[ "$exits" = 0 ] || echo "warning: the following units failed: demo.service" >&2
exit "$exits"
