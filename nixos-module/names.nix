# Names on which the files, the users and the units of the module have to agree.
{
  # Who the agent is when it is not root.
  user = "muster";
  # Who may ask the privileged helper: the agent alone, and not the people in the group of the control socket.
  helperGroup = "muster-agent";

  stateDir = "/var/lib/muster";
  configFile = "/etc/muster/muster.toml";
  trustFile = "/etc/muster/trust.json";
  healthChecksFile = "/etc/muster/health-checks.json";

  # Not in /run/muster: systemd takes that folder away whenever the agent stops, and the socket has to outlive it.
  helperSocket = "/run/muster-activate/activate.sock";
}
