# What the module must make of a configuration: each case is a module, a look at the result, and what must be seen.
let
  with' = muster: { services.muster = muster; };
  check = kind: { healthChecks.site = kind; };
  evidence = override: {
    kind = "evidence";
    framework = "x";
    evidencePath = "/e";
    controlOverrides.a = override;
  };
  directory = {
    backend = "directory";
    root = "/srv/app";
  };

  # All assertions that break, as they are shown.
  refuses = muster: sentences: {
    given = with' muster;
    see = seen: seen.broken;
    want = sentences;
  };
  # The module system itself refuses the one, for a name that it does not know, and takes the other.
  refusesValue = refused: taken: { inherit refused taken; };
  sees = muster: see: want: {
    given = with' muster;
    inherit see want;
  };
in
{
  "a disabled agent leaves the system alone" = {
    given = with' { enable = false; };
    see = seen: {
      inherit (seen)
        broken
        files
        units
        sockets
        groups
        users
        tmpfiles
        firewall
        ;
    };
    want = {
      broken = [ ];
      files = [ ];
      units = { };
      sockets = { };
      groups = [ ];
      users = { };
      tmpfiles = [ ];
      firewall = {
        tcp = [ ];
        udp = [ ];
      };
    };
  };

  "the smallest configuration is warned of nothing" = sees { } (seen: seen.warnings) [ ];

  "a Nix daemon that lets the agent fetch nothing is warned of" = {
    given = with' { } // {
      nix.settings.allowed-users = [ "alice" ];
    };
    see = seen: seen.warnings;
    want = [
      "nix.settings.allowed-users leaves out muster, the user of the muster agent: the Nix daemon would fetch no release for it."
    ];
  };

  "an agent that is root needs nobody's leave to fetch" = {
    given = with' { privilegeSeparation = false; } // {
      nix.settings.allowed-users = [ "alice" ];
    };
    see = seen: seen.warnings;
    want = [ ];
  };

  "a host key that nobody makes is warned of" = {
    given.services = {
      muster = { };
      openssh.enable = false;
    };
    see = seen: seen.warnings;
    want = [
      "services.muster.identityFile is /etc/ssh/ssh_host_ed25519_key, but services.openssh is off, which would make it: without that file the agent does not start."
    ];
  };

  "another program that switches the host is warned of" = {
    given = with' { } // {
      system.autoUpgrade.enable = true;
    };
    see = seen: seen.warnings;
    want = [
      "system.autoUpgrade switches this host too, past the fleet: muster would take it back to what operators signed only at the next release."
    ];
  };

  "a key of one's own needs no OpenSSH" = {
    given.services = {
      muster.identityFile = "/var/lib/keys/muster";
      openssh.enable = false;
    };
    see = seen: seen.warnings;
    want = [ ];
  };

  "the smallest configuration breaks no assertion" = refuses { } [ ];

  "the smallest configuration renders every key it must" = sees { } (seen: seen.toml) {
    fleet = "home";
    host = "web-01";
    state_dir = "/var/lib/muster";
    identity = "/etc/ssh/ssh_host_ed25519_key";
    trust = "/etc/muster/trust.json";
    listen = [
      "/ip4/0.0.0.0/udp/7946/quic-v1"
      "/ip4/0.0.0.0/tcp/7946"
    ];
    bootstrap = [ ];
    mdns = false;
    health_checks = "/etc/muster/health-checks.json";
    activation = {
      backend = "nixos";
      defer = [ "dbus" ];
      helper = "/run/muster-activate/activate.sock";
    };
  };

  "the directory backend renders its root and nothing of the other" =
    sees { activation = directory; } (seen: seen.toml.activation)
      directory;

  "metrics get a section only when asked for" =
    sees { metrics.listen = "127.0.0.1:9746"; } (seen: seen.toml.metrics)
      { listen = "127.0.0.1:9746"; };

  "hooks become tables with nothing in them that was not said" =
    sees
      {
        hooks = {
          pager = {
            events = [ "all" ];
            command = [ "/bin/page" ];
          };
          chat = {
            events = [ "rollout-failed" ];
            url = "https://chat/in";
            caFile = "/ca.pem";
            timeoutSeconds = 5;
            tries = 3;
          };
        };
      }
      (seen: seen.toml.hook)
      [
        {
          name = "chat";
          events = [ "rollout-failed" ];
          url = "https://chat/in";
          ca_file = "/ca.pem";
          timeout_seconds = 5;
          tries = 3;
        }
        {
          name = "pager";
          events = [ "all" ];
          command = [ "/bin/page" ];
          timeout_seconds = 30;
          tries = 20;
        }
      ];

  "a hook must be callable" =
    refuses
      {
        hooks = {
          "Pager" = {
            events = [
              "all"
              "quarantined"
            ];
            command = [ "page" ];
          };
          both = {
            events = [ ];
            command = [ ];
            url = "ftp://x";
            caFile = "ca.pem";
          };
          none.events = [ "all" ];
        };
      }
      [
        "services.muster.hooks.Pager is not a name for a hook: it must be 1 to 32 lower-case letters, digits and hyphens."
        "services.muster.hooks.Pager names all and other events: all stands for every one of them."
        "services.muster.hooks.Pager must name the program to run by its whole path."
        "services.muster.hooks.both names no events: it would never be called."
        "services.muster.hooks.both must set either command or url."
        "services.muster.hooks.both must name the program to run by its whole path."
        "services.muster.hooks.both has a url that does not begin with http:// or https://."
        "services.muster.hooks.both has a caFile without an https url."
        "services.muster.hooks.both has the caFile ca.pem, which is not a path from the root."
        "services.muster.hooks.none must set either command or url."
      ];

  "settings reach the file beside the options" =
    sees
      {
        settings = {
          retention_days = 30;
          metrics.path = "/metrics";
        };
        metrics.listen = "127.0.0.1:9746";
      }
      (seen: {
        inherit (seen.toml) retention_days metrics;
      })
      {
        retention_days = 30;
        metrics = {
          listen = "127.0.0.1:9746";
          path = "/metrics";
        };
      };

  "settings may not say again what an option says" =
    refuses
      {
        settings = {
          fleet = "other";
          host = "other";
          listen = [ ];
          bootstrap = [ ];
          mdns = false;
          identity = "/key";
          activation = {
            backend = "directory";
            root = "/srv";
            defer = [ ];
            helper = "/run/other.sock";
          };
          metrics.listen = "0.0.0.0:1";
          hook = [ ];
          state_dir = "/tmp";
          socket = "/tmp/muster.sock";
          trust = "/tmp/trust.json";
          health_checks = "/tmp/checks.json";
        };
      }
      [
        "services.muster.settings must not set fleet: services.muster.fleet does."
        "services.muster.settings must not set host: services.muster.host does."
        "services.muster.settings must not set listen: services.muster.listen does."
        "services.muster.settings must not set bootstrap: services.muster.bootstrap does."
        "services.muster.settings must not set mdns: services.muster.mdns does."
        "services.muster.settings must not set identity: services.muster.identityFile does."
        "services.muster.settings must not set activation.backend: services.muster.activation.backend does."
        "services.muster.settings must not set activation.root: services.muster.activation.root does."
        "services.muster.settings must not set activation.defer: services.muster.activation.defer does."
        "services.muster.settings must not set activation.helper: services.muster.privilegeSeparation does."
        "services.muster.settings must not set metrics.listen: services.muster.metrics.listen does."
        "services.muster.settings must not set hook: services.muster.hooks does."
        "services.muster.settings must not set state_dir: the unit of the service depends on its value."
        "services.muster.settings must not set socket: the unit of the service depends on its value."
        "services.muster.settings must not set trust: the unit of the service depends on its value."
        "services.muster.settings must not set health_checks: the unit of the service depends on its value."
      ];

  "trust.json holds fleet, operators and threshold" =
    sees
      {
        operators = {
          alice = "ssh-ed25519 AAAAalice alice";
          token = "sk-ssh-ed25519@openssh.com AAAAtoken";
        };
        threshold = 2;
      }
      (seen: seen.trust)
      {
        fleet = "home";
        operators = {
          alice = "ssh-ed25519 AAAAalice alice";
          token = "sk-ssh-ed25519@openssh.com AAAAtoken";
        };
        threshold = 2;
      };

  "a fleet without operators is refused" = refuses { operators = { }; } [
    "services.muster.operators is empty: without an operator's key this host could believe no fleet document."
  ];

  "a threshold above the number of keys is refused" = refuses { threshold = 2; } [
    "services.muster.threshold is 2, but services.muster.operators has only 1 different keys."
  ];

  "one key under two names counts once" =
    refuses
      {
        operators = {
          alice = "ssh-ed25519 AAAAsame alice";
          bob = "ssh-ed25519 AAAAsame bob";
        };
        threshold = 2;
      }
      [ "services.muster.threshold is 2, but services.muster.operators has only 1 different keys." ];

  "an operator's key of another type is refused by name" =
    refuses
      {
        operators = {
          alice = "ssh-ed25519 AAAAalice";
          bob = "ssh-rsa AAAAbob";
        };
      }
      [
        "services.muster.operators.bob is not one line with an OpenSSH public key of type ssh-ed25519 or sk-ssh-ed25519@openssh.com."
      ];

  "two lines are not a key" =
    refuses
      {
        operators = {
          alice = "ssh-ed25519 AAAAalice";
          bob = "ssh-ed25519 AAAAbob bob\nssh-ed25519 AAAAeve eve";
        };
      }
      [
        "services.muster.operators.bob is not one line with an OpenSSH public key of type ssh-ed25519 or sk-ssh-ed25519@openssh.com."
      ];

  "a fleet's name has a form" = refuses { fleet = "Home"; } [
    "services.muster.fleet is \"Home\", but the name of a fleet is a lower-case letter and at most 62 lower-case letters, digits and hyphens."
  ];

  "looking for members on the local network is refused" = refuses { mdns = true; } [
    "services.muster.mdns is on, but this version of the agent does not look for members on the local network: name some of them in services.muster.bootstrap."
  ];

  "a host name with capitals is refused" = refuses { host = "Web-01"; } [
    "services.muster.host is \"Web-01\", but the name of a host is 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end."
  ];

  "an agent that listens nowhere is refused" = refuses { listen = [ ]; } [
    "services.muster.listen is empty: the agent needs an address to listen on."
  ];

  "a bootstrap address must name the peer" =
    refuses { bootstrap = [ "/dns4/a/udp/7946/quic-v1/p2p/12D3KooA" "/dns4/b/tcp/7946" ]; }
      [
        "services.muster.bootstrap holds /dns4/b/tcp/7946, which does not end in /p2p/ and a peer id: the agent would not know whom to expect there."
      ];

  "the directory backend needs a root" = refuses { activation.backend = "directory"; } [
    "services.muster.activation.root must name the folder of releases when services.muster.activation.backend is directory."
  ];

  "the nixos backend has no root" = refuses { activation.root = "/srv/app"; } [
    "services.muster.activation.root has no meaning when services.muster.activation.backend is nixos."
  ];

  "the directory backend has nothing to separate" =
    refuses
      {
        activation = directory;
        privilegeSeparation = true;
      }
      [
        "services.muster.privilegeSeparation has no meaning when services.muster.activation.backend is directory, which needs no root."
      ];

  "whoever may use the control socket must not reach the helper" = refuses { group = "muster-agent"; } [
    "services.muster.group must not be muster-agent: its members could ask the privileged helper for a switch."
  ];

  "a key in the store is refused" = refuses { identityFile = "/nix/store/abc-key"; } [
    "services.muster.identityFile lies in the Nix store, where every user could read the private key."
  ];

  "an unknown option is refused" = refusesValue { thresold = 1; } { threshold = 1; };

  "the firewall stays shut by default" = sees { } (seen: seen.firewall) {
    tcp = [ ];
    udp = [ ];
  };

  "the firewall opens what listens, but not on the loopback" =
    sees
      {
        openFirewall = true;
        listen = [
          "/ip4/0.0.0.0/udp/7946/quic-v1"
          "/ip6/::/udp/7946/quic-v1"
          "/ip4/10.0.0.1/tcp/8000"
          "/ip4/127.0.0.1/tcp/9000"
          "/ip6/::1/tcp/9001"
        ];
      }
      (seen: seen.firewall)
      {
        tcp = [ 8000 ];
        udp = [ 7946 ];
      };

  "health checks are rendered with only the keys of their kind" =
    sees
      {
        healthChecks = {
          site = {
            kind = "http";
            url = "http://127.0.0.1/health";
            bodyContains = "ok";
          };
          reachable = {
            kind = "peers";
            mode = "observe";
            min = 2;
            intervalSeconds = 60;
          };
          controls = {
            kind = "evidence";
            framework = "iso27001";
            evidencePath = "/var/lib/evidence.json";
            controlOverrides."A.8.9" = {
              mode = "observe";
              reason = "in work";
            };
          };
        };
      }
      (seen: seen.checks)
      {
        site = {
          kind = "http";
          mode = "enforce";
          intervalSeconds = 30;
          timeoutSeconds = 10;
          url = "http://127.0.0.1/health";
          bodyContains = "ok";
        };
        reachable = {
          kind = "peers";
          mode = "observe";
          intervalSeconds = 60;
          timeoutSeconds = 10;
          min = 2;
        };
        controls = {
          kind = "evidence";
          mode = "enforce";
          intervalSeconds = 30;
          timeoutSeconds = 10;
          framework = "iso27001";
          evidencePath = "/var/lib/evidence.json";
          controlOverrides."A.8.9" = {
            mode = "observe";
            reason = "in work";
          };
        };
      };

  "a host without health checks still has the file" = sees { } (seen: seen.checks) { };

  "every kind passes with what it needs" =
    refuses
      {
        healthChecks = {
          a = { kind = "http"; url = "http://a/"; expectStatus = 204; };
          b = { kind = "tcp"; host = "::1"; port = 22; };
          c = { kind = "exec"; command = [ "true" ]; expectExitCode = 0; };
          d = { kind = "systemd"; units = [ "sshd.service" ]; };
          e = { kind = "systemd"; maxFailedUnits = 0; };
          f = { kind = "peers"; min = 1; };
          g = { kind = "evidence"; framework = "x"; evidencePath = "/e"; };
        };
      }
      [ ];

  "a health check must have what its kind needs" = refuses (check { kind = "tcp"; }) [
    "services.muster.healthChecks.site is of kind tcp and must set host and port."
  ];

  "a health check must not have the keys of another kind" =
    refuses (check { kind = "peers"; min = 1; url = "http://a/"; port = 1; })
      [ "services.muster.healthChecks.site is of kind peers, which has no url and no port." ];

  "a systemd check must check something" = refuses (check { kind = "systemd"; }) [
    "services.muster.healthChecks.site is of kind systemd and checks nothing: it must set units or maxFailedUnits."
  ];

  "the agent speaks HTTP, plain or over TLS" = refuses (check { kind = "http"; url = "ftp://a/"; }) [
    "services.muster.healthChecks.site has the url ftp://a/, which begins neither with http:// nor with https://: the agent speaks nothing else."
  ];

  "a file of authorities is for a server with a certificate" =
    refuses (check { kind = "http"; url = "http://a/"; caFile = "/ca.pem"; })
      [
        "services.muster.healthChecks.site has the caFile /ca.pem, which must be a path from the root, for a url that begins with https://."
      ];

  "a unit is named in full" =
    refuses (check { kind = "systemd"; units = [ "nginx" "a@b\\x2dc.mount" "-x.service" ]; })
      [
        "services.muster.healthChecks.site names nginx, -x.service, but a unit is named in full, such as nginx.service."
      ];

  "evidence lies at a path from the root" =
    refuses (check { kind = "evidence"; framework = "x"; evidencePath = "evidence.json"; })
      [ "services.muster.healthChecks.site has the evidencePath evidence.json, which is not a path from the root." ];

  "an empty command is refused" = refuses (check { kind = "exec"; command = [ ]; }) [
    "services.muster.healthChecks.site has an empty command: it must name the program to run."
  ];

  "a health check's name has a form" = refuses { healthChecks.Site = { kind = "peers"; min = 1; }; } [
    "services.muster.healthChecks.Site is not a name for a health check: it must be 1 to 63 lower-case letters, digits and hyphens, and begin with a letter."
  ];

  "an unknown key of a check is refused" =
    refusesValue (check { kind = "peers"; min = 1; minimum = 1; })
      (check { kind = "peers"; min = 1; });
  "an override without a reason is refused" =
    refusesValue (check (evidence { mode = "disabled"; }))
      (check (evidence { mode = "disabled"; reason = "in work"; }));

  "systemd watches the agent and hands it the key as a credential" =
    sees { identityFile = "/persist/key"; }
      (seen: {
        inherit (seen.service)
          Type
          WatchdogSec
          LoadCredential
          ExecStart
          StateDirectory
          RuntimeDirectory
          ;
        inherit (seen.unit.environment) MUSTER_IDENTITY;
      })
      {
        Type = "notify";
        WatchdogSec = "30s";
        LoadCredential = "identity:/persist/key";
        ExecStart = "/nix/store/00000000000000000000000000000000-muster/bin/muster agent --config /etc/muster/muster.toml";
        StateDirectory = "muster";
        RuntimeDirectory = "muster";
        MUSTER_IDENTITY = "%d/identity";
      };

  "nothing of the sandbox is missing" =
    sees { }
      (
        seen:
        builtins.filter (key: seen.service.${key} or null != true) [
          "LockPersonality"
          "MemoryDenyWriteExecute"
          "NoNewPrivileges"
          "PrivateDevices"
          "PrivateTmp"
          "ProtectClock"
          "ProtectControlGroups"
          "ProtectHostname"
          "ProtectKernelLogs"
          "ProtectKernelModules"
          "ProtectKernelTunables"
          "RestrictNamespaces"
          "RestrictRealtime"
          "RestrictSUIDSGID"
        ]
      )
      [ ];

  "a switch does not restart the agent that carries it out" =
    sees { } (seen: seen.unit.restartIfChanged)
      false;

  "the directory backend runs without root and may write its root" =
    sees
      {
        activation = directory;
        group = "deploy";
      }
      (seen: {
        inherit (seen.service)
          User
          Group
          KillMode
          ReadWritePaths
          ;
        inherit (seen) groups tmpfiles;
        users = builtins.mapAttrs (_: user: user.group) seen.users;
      })
      {
        User = "muster";
        Group = "deploy";
        KillMode = "process";
        ReadWritePaths = [ "/srv/app" ];
        groups = [ "deploy" ];
        tmpfiles = [
          "d /srv/app 0755 muster deploy -"
          "d /srv/app/releases 0755 muster deploy -"
        ];
        users.muster = "deploy";
      };

  "with separated privileges the agent is nobody, and the helper alone is root" =
    sees { group = "wheel"; }
      (seen: {
        agent = {
          inherit (seen.service)
            User
            Group
            SupplementaryGroups
            CapabilityBoundingSet
            ReadWritePaths
            ;
        };
        inherit (seen) groups;
        users = builtins.mapAttrs (_: user: user.group) seen.users;
        helper = {
          user = seen.helper.serviceConfig.User or "root";
          inherit (seen.helper.serviceConfig)
            CapabilityBoundingSet
            ExecStart
            RestrictSUIDSGID
            PrivateNetwork
            RestrictAddressFamilies
            StateDirectory
            StateDirectoryMode
            ReadWritePaths
            ;
        };
      })
      {
        agent = {
          User = "muster";
          Group = "wheel";
          SupplementaryGroups = [ "muster-agent" ];
          CapabilityBoundingSet = "";
          ReadWritePaths = [ ];
        };
        groups = [
          "muster-agent"
          "wheel"
        ];
        users.muster = "muster-agent";
        helper = {
          user = "root";
          CapabilityBoundingSet = "CAP_SYS_PTRACE";
          ExecStart = "/nix/store/00000000000000000000000000000000-muster/bin/muster activate --config /etc/muster/muster.toml --user muster --group muster-agent";
          RestrictSUIDSGID = false;
          PrivateNetwork = true;
          RestrictAddressFamilies = [ "AF_UNIX" ];
          StateDirectory = "muster-activate";
          StateDirectoryMode = "0700";
          ReadWritePaths = [
            "/nix/var/nix/profiles"
            "/nix/var/nix/gcroots"
          ];
        };
      };

  "only the agent's own group may open the door to root" =
    sees { group = "wheel"; }
      (seen: {
        inherit (seen.sockets.muster-activate.socketConfig)
          ListenStream
          Accept
          SocketUser
          SocketGroup
          SocketMode
          ;
        inherit (seen.unit) wants;
        members = builtins.attrNames seen.sockets;
        asked = seen.toml.activation.helper;
      })
      {
        ListenStream = "/run/muster-activate/activate.sock";
        Accept = true;
        SocketUser = "root";
        SocketGroup = "muster-agent";
        SocketMode = "0660";
        wants = [ "muster-activate.socket" ];
        members = [ "muster-activate" ];
        asked = "/run/muster-activate/activate.sock";
      };

  "a switch does not end the helper that it goes through" = sees { } (seen: {
    inherit (seen.helper) restartIfChanged stopIfChanged;
  }) {
    restartIfChanged = false;
    stopIfChanged = false;
  };

  "without separation the agent is root, and there is no door to it" =
    sees { privilegeSeparation = false; }
      (seen: {
        user = seen.service.User or "root";
        users = builtins.attrNames seen.users;
        units = builtins.attrNames seen.units;
        inherit (seen) sockets;
        inherit (seen.service) Group CapabilityBoundingSet;
        inherit (seen.unit.environment) NIX_REMOTE;
        helper = seen.toml.activation ? helper;
      })
      {
        user = "root";
        users = [ ];
        units = [ "muster" ];
        sockets = { };
        Group = "muster";
        CapabilityBoundingSet = "";
        NIX_REMOTE = "daemon";
        helper = false;
      };
}
