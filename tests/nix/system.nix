# Store paths shaped like NixOS systems, built by real Nix without a network: what `muster` reads of a system is where it belongs.
#
# `systems` is a JSON list; each has
#   name       tells the systems apart
#   dbus       the implementation of D-Bus that `switch-inhibitors` names
#   checks     the content of health-checks.json, or null
#   service    the program of demo.service
#   exits      what `switch` exits with in the end
#   waits      where `switch` waits until /run/gate exists: "first", before anything is done; "halfway", when the boot loader is
#              set and nothing else; or "never"
#   network    whether the network goes on once this system is switched to
#   restarts   units that `switch` restarts
#   agent      the version of the agent that its units run, out of a store path of its own; "" leaves them as they are
{ systems }:
let
  # The program under test, in another place.
  programOf =
    version:
    derivation {
      name = "muster-${version}";
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [
        "-c"
        "/usr/bin/mkdir -p $out/bin; /usr/bin/cp /opt/muster/bin/muster $out/bin/muster"
      ];
    };
  make =
    system:
    derivation {
      name = "nixos-system-node-26.05.${system.name}";
      system = builtins.currentSystem;
      builder = "/bin/sh";
      inherit (system) dbus exits waits restarts;
      version = "26.05.${system.name}";
      network = if system.network then "on" else "off";
      agent = if system.agent == "" then "" else programOf system.agent;
      checks = if system.checks == null then "" else builtins.toFile "health-checks.json" (builtins.toJSON system.checks);
      unit = builtins.toFile "demo.service" ''
        [Service]
        ExecStart=${system.service}
      '';
      switcher = builtins.toFile "switch-to-configuration" (builtins.readFile ./switch-to-configuration.sh);
      setter = builtins.toFile "set-agent" (builtins.readFile ./set-agent.sh);
      args = [
        "-c"
        ''
          set -eu
          export PATH=/usr/bin:/bin
          mkdir -p $out/bin $out/etc/systemd/system
          {
            printf '#!/bin/sh\ntop=%s exits=%s waits=%s network=%s restarts="%s"\n' $out $exits $waits $network "$restarts"
            cat $switcher
          } > $out/bin/switch-to-configuration
          {
            printf '#!/bin/sh\nagent=%s\n' "$agent"
            cat $setter
          } > $out/bin/set-agent
          chmod +x $out/bin/switch-to-configuration $out/bin/set-agent
          printf '#!/bin/sh\nexec /lib/systemd/systemd\n' > $out/init
          chmod +x $out/init
          printf %s $version > $out/nixos-version
          printf 'x86_64-linux' > $out/system
          printf '{"dbus-implementation":"%s"}' $dbus > $out/switch-inhibitors
          ln -s /lib/systemd $out/systemd
          ln -s /usr $out/sw
          echo kernel > $out/kernel
          echo initrd > $out/initrd
          ln -s $unit $out/etc/systemd/system/demo.service
          if [ -n "$checks" ]; then
            mkdir $out/etc/muster
            ln -s $checks $out/etc/muster/health-checks.json
          fi
        ''
      ];
    };
in
map make (builtins.fromJSON systems)
