# The units: the agent, and with privilege separation the socket of its helper and the helper itself.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.muster;
  names = import ./names.nix;
  sandbox = import ./sandbox.nix;

  onNixos = cfg.activation.backend == "nixos";
  separated = onNixos && cfg.privilegeSeparation;
  directoryRoot = lib.optional (!onNixos && cfg.activation.root != null) cfg.activation.root;

  program = "${cfg.package}/bin/muster";

  # Nobody here may write the store; the Nix daemon does it.
  nixEnvironment = lib.optionalAttrs onNixos { NIX_REMOTE = "daemon"; };
  nixPath = lib.optional onNixos config.nix.package;
  # Where the profile of the system and what keeps it from the garbage collector lie.
  profileFolders = [
    "/nix/var/nix/profiles"
    "/nix/var/nix/gcroots"
  ];

  identity =
    if separated then
      {
        User = names.user;
        # The group owns the control socket.
        Group = cfg.group;
        SupplementaryGroups = [ names.helperGroup ];
      }
    else if onNixos then
      {
        Group = cfg.group;
      }
    else
      {
        User = names.user;
        Group = cfg.group;
      };

  daemon = {
    description = "muster fleet agent";
    wantedBy = [ "multi-user.target" ];
    # Not required: systemd would stop the agent in the middle of a switch that brings another socket.
    wants = lib.optional separated "muster-activate.socket";
    after = [
      "network.target"
      # It makes the host key, which is the agent's identity by default.
      "sshd-keygen.service"
    ]
    ++ lib.optional separated "muster-activate.socket";
    # The agent carries out the very switch that would restart it, and has to see it to its end: what was switched, whether
    # the health checks pass, whether to go back. A new version takes over at the unit's next start.
    restartIfChanged = false;
    # A host that gives up on its agent can no longer be repaired through the fleet.
    unitConfig.StartLimitIntervalSec = 0;
    environment = {
      MUSTER_IDENTITY = "%d/identity";
    }
    // nixEnvironment;
    # Releases are fetched at low priority, by ionice among others.
    path = nixPath ++ lib.optional onNixos pkgs.util-linux;

    serviceConfig =
      sandbox
      // identity
      // {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${program} agent --config ${names.configFile}";
        LoadCredential = "identity:${cfg.identityFile}";
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
        ReadWritePaths =
          if separated then
            [ ]
          else if onNixos then
            profileFolders
          else
            directoryRoot;
        # Netlink tells the agent of addresses that come and go.
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
          "AF_UNIX"
        ];
      };
  };

  socket = {
    description = "Door of the muster agent to its privileged helper";
    wantedBy = [ "sockets.target" ];
    socketConfig = {
      ListenStream = names.helperSocket;
      Accept = true;
      SocketUser = "root";
      SocketGroup = names.helperGroup;
      SocketMode = "0660";
      DirectoryMode = "0755";
      # The agent asks one thing at a time.
      MaxConnections = 4;
    };
  };

  helper = {
    description = "muster's privileged helper";
    # The switch that it began goes on without it, but whoever waits for its answer would not get one.
    restartIfChanged = false;
    stopIfChanged = false;
    # A refusal must not leave a failed unit behind for each connection.
    unitConfig.CollectMode = "inactive-or-failed";
    environment = nixEnvironment;
    path = nixPath;

    serviceConfig = sandbox // {
      # It keeps its memory in the state directory, and finds the trust file by the configuration.
      ExecStart = "${program} activate --config ${names.configFile} --user ${names.user} --group ${names.helperGroup}";
      StandardInput = "socket";
      StandardOutput = "journal";
      StandardError = "journal";
      StateDirectory = "muster-activate";
      StateDirectoryMode = "0700";
      ReadWritePaths = profileFolders;
      RuntimeMaxSec = "15min";
      # To restart an agent whose program was replaced, it looks at which one runs.
      CapabilityBoundingSet = "CAP_SYS_PTRACE";
      # The Nix daemon, systemd and the message bus are reached through sockets in the file system; there is no network.
      PrivateNetwork = true;
      IPAddressDeny = "any";
      RestrictAddressFamilies = [ "AF_UNIX" ];
    };
  };
in
{
  config = lib.mkIf cfg.enable {
    systemd.services = {
      muster = daemon;
    }
    // lib.optionalAttrs separated { "muster-activate@" = helper; };
    systemd.sockets = lib.optionalAttrs separated { muster-activate = socket; };
  };
}
