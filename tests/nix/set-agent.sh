# Has the agent's units run the program that the system brings, or the one that they name themselves. The line above says which.
export PATH=/usr/sbin:/usr/bin
for unit in muster.service muster-activate@.service; do
  rm -rf "/run/systemd/system/$unit.d"
  [ -n "$agent" ] || continue
  mkdir -p "/run/systemd/system/$unit.d"
  sed -n "s|^ExecStart=[^ ]*|[Service]\nExecStart=\nExecStart=$agent/bin/muster|p" "/etc/systemd/system/$unit" \
    > "/run/systemd/system/$unit.d/agent.conf"
done
