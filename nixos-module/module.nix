# Runs the muster agent: its configuration, its root of trust, its health checks and its unit.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.muster;
  healthChecks = import ./health-checks.nix { inherit lib; };

  configFile = "/etc/muster/muster.toml";
  onNixos = cfg.activation.backend == "nixos";
  directoryRoot = lib.optional (!onNixos && cfg.activation.root != null) cfg.activation.root;

  # Keys of muster.toml that `settings` must leave alone, and the option that sets each; null: the unit depends on its value.
  ownedKeys = [
    [ [ "fleet" ] "fleet" ]
    [ [ "host" ] "host" ]
    [ [ "listen" ] "listen" ]
    [ [ "bootstrap" ] "bootstrap" ]
    [ [ "identity" ] "identityFile" ]
    [ [ "activation" "backend" ] "activation.backend" ]
    [ [ "activation" "root" ] "activation.root" ]
    [ [ "activation" "defer" ] "activation.defer" ]
    [ [ "metrics" "listen" ] "metrics.listen" ]
    [ [ "state_dir" ] null ]
    [ [ "socket" ] null ]
    [ [ "trust" ] null ]
    [ [ "health_checks" ] null ]
  ];

  ownedKeyAssertion =
    entry:
    let
      path = builtins.elemAt entry 0;
      option = builtins.elemAt entry 1;
      key = lib.concatStringsSep "." path;
    in
    {
      assertion = !(lib.hasAttrByPath path cfg.settings);
      message =
        if option == null then
          "services.muster.settings must not set ${key}: the unit of the service depends on its value."
        else
          "services.muster.settings must not set ${key}: services.muster.${option} does.";
    };

  fromOptions = {
    inherit (cfg)
      fleet
      host
      listen
      bootstrap
      ;
    state_dir = "/var/lib/muster";
    identity = cfg.identityFile;
    trust = "/etc/muster/trust.json";
    health_checks = "/etc/muster/health-checks.json";
    activation = {
      inherit (cfg.activation) backend;
    }
    // lib.optionalAttrs onNixos { inherit (cfg.activation) defer; }
    // lib.optionalAttrs (directoryRoot != [ ]) { inherit (cfg.activation) root; };
  }
  // lib.optionalAttrs (cfg.metrics.listen != null) { metrics = { inherit (cfg.metrics) listen; }; };

  # The key itself, without its type and comment: what signatures are counted by.
  operatorKeys = map (line: builtins.match "(sk-)?ssh-ed25519(@openssh.com)? +([A-Za-z0-9+/=]+)( .*)?" line) (
    builtins.attrValues cfg.operators
  );
  distinctKeys = lib.unique (map (found: builtins.elemAt found 2) (builtins.filter (found: found != null) operatorKeys));

  operatorAssertions = [
    {
      assertion = cfg.operators != { };
      message = "services.muster.operators is empty: without an operator's key this host could believe no fleet document.";
    }
    {
      assertion = cfg.threshold <= builtins.length distinctKeys || cfg.operators == { };
      message = "services.muster.threshold is ${toString cfg.threshold}, but services.muster.operators has only ${toString (builtins.length distinctKeys)} different keys.";
    }
  ]
  ++ lib.mapAttrsToList (name: line: {
    assertion = builtins.match "(ssh-ed25519|sk-ssh-ed25519@openssh.com) +[A-Za-z0-9+/=]+( [^\n]*)?" line != null;
    message = "services.muster.operators.${name} is not one line with an OpenSSH public key of type ssh-ed25519 or sk-ssh-ed25519@openssh.com.";
  }) cfg.operators;

  bootstrapAssertion = address: {
    assertion = builtins.match "/.+/p2p/[A-Za-z0-9]+" address != null;
    message = "services.muster.bootstrap holds ${address}, which does not end in /p2p/ and a peer id: the agent would not know whom to expect there.";
  };

  # [ protocol port ] of an address that other machines can reach, else null.
  reachablePort =
    address:
    if lib.hasPrefix "/ip4/127." address || lib.hasPrefix "/ip6/::1/" address then
      null
    else
      builtins.match "/[^/]+/[^/]+/(tcp|udp)/([0-9]+)(/.*)?" address;
  portsOf =
    protocol:
    lib.unique (
      map (found: lib.toInt (builtins.elemAt found 1)) (
        builtins.filter (found: found != null && builtins.head found == protocol) (map reachablePort cfg.listen)
      )
    );

  hardening = {
    CapabilityBoundingSet = "";
    DevicePolicy = "closed";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateTmp = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    # ProcSubset stays at "all": the agent reads the machine's boot id under /proc/sys.
    ProtectProc = "invisible";
    # PrivateUsers stays off: it would hide who is at the other end of the control socket.
    ProtectSystem = "strict";
    RemoveIPC = true;
    # Netlink tells the agent of addresses that come and go.
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
      "AF_UNIX"
    ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    # The control socket is handed to its group, which needs chown.
    SystemCallFilter = [
      "@system-service"
      "~@privileged"
      "@chown"
    ];
    UMask = "0077";
  };
in
{
  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable {
    assertions =
      operatorAssertions
      ++ [
        {
          assertion = builtins.match "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" cfg.host != null;
          message = "services.muster.host is \"${cfg.host}\", but the name of a host is 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end.";
        }
        {
          assertion = cfg.listen != [ ];
          message = "services.muster.listen is empty: the agent needs an address to listen on.";
        }
        {
          assertion = onNixos || cfg.activation.root != null;
          message = "services.muster.activation.root must name the folder of releases when services.muster.activation.backend is directory.";
        }
        {
          assertion = !onNixos || cfg.activation.root == null;
          message = "services.muster.activation.root has no meaning when services.muster.activation.backend is nixos.";
        }
        {
          assertion = !(lib.hasPrefix builtins.storeDir cfg.identityFile);
          message = "services.muster.identityFile lies in the Nix store, where every user could read the private key.";
        }
      ]
      ++ map bootstrapAssertion cfg.bootstrap
      ++ map ownedKeyAssertion ownedKeys
      ++ healthChecks.assertions cfg.healthChecks;

    environment.etc = {
      "muster/muster.toml".source = (pkgs.formats.toml { }).generate "muster.toml" (
        lib.recursiveUpdate fromOptions cfg.settings
      );
      "muster/trust.json".text = builtins.toJSON { inherit (cfg) fleet operators threshold; };
      "muster/health-checks.json".text = builtins.toJSON (healthChecks.render cfg.healthChecks);
    };
    environment.systemPackages = [ cfg.package ];

    networking.firewall = lib.mkIf cfg.openFirewall {
      allowedTCPPorts = portsOf "tcp";
      allowedUDPPorts = portsOf "udp";
    };

    users.groups.${cfg.group} = { };
    users.users = lib.mkIf (!onNixos) {
      muster = {
        isSystemUser = true;
        group = cfg.group;
        description = "muster agent";
      };
    };

    systemd.tmpfiles.rules = lib.concatMap (root: [
      "d ${root} 0755 muster ${cfg.group} -"
      "d ${root}/releases 0755 muster ${cfg.group} -"
    ]) directoryRoot;

    systemd.services.muster = {
      description = "muster fleet agent";
      wantedBy = [ "multi-user.target" ];
      after = [
        "network.target"
        # It makes the host key, which is the agent's identity by default.
        "sshd-keygen.service"
      ];
      # The agent carries out the very switch that would restart it, and has to see it to its end: what was switched, whether
      # the health checks pass, whether to go back. A new version takes over at the unit's next start.
      restartIfChanged = false;
      # A host that gives up on its agent can no longer be repaired through the fleet.
      unitConfig.StartLimitIntervalSec = 0;
      environment = {
        MUSTER_IDENTITY = "%d/identity";
      }
      # Without capabilities the agent cannot write the store itself; the Nix daemon does it.
      // lib.optionalAttrs onNixos { NIX_REMOTE = "daemon"; };
      path = lib.optional onNixos config.nix.package;

      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/muster agent --config ${configFile}";
        LoadCredential = "identity:${cfg.identityFile}";
        Group = cfg.group;
        StateDirectory = "muster";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "muster";
        # The group has to reach the control socket inside.
        RuntimeDirectoryMode = "0750";
        WatchdogSec = "30s";
        # Opening a large store after a power cut checks it first.
        TimeoutStartSec = "5min";
        TimeoutStopSec = "30s";
        Restart = "always";
        RestartSec = "5s";
        LimitNOFILE = 65536;
        # A release's activate program outlives the agent and is found again; a switch of the system has a unit of its own.
        KillMode = if onNixos then "control-group" else "process";
        ReadWritePaths = if onNixos then [ "/nix/var/nix/profiles" "/nix/var/nix/gcroots" ] else directoryRoot;
      }
      // lib.optionalAttrs (!onNixos) { User = "muster"; }
      // hardening;
    };
  };
}
