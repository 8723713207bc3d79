# The options of `services.muster`.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;
  healthChecks = import ./health-checks.nix { inherit lib; };
  hooks = import ./hooks.nix { inherit lib; };
in
{
  options.services.muster = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether this host takes part in a muster fleet.";
    };

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The package that holds the `muster` program.";
    };

    fleet = mkOption {
      type = types.str;
      example = "home";
      description = "The name of the fleet, as in its fleet document.";
    };

    host = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      example = "web-01";
      description = "The name of this host, as in the fleet document.";
    };

    operators = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = lib.literalExpression ''{ alice = "ssh-ed25519 AAAA... alice"; }'';
      description = ''
        The operators whose signatures under a fleet document this host believes, by name, each with one OpenSSH public key
        line (`ssh-ed25519` or `sk-ssh-ed25519@openssh.com`). This is the root of trust: later operators follow from fleet
        documents that these have signed.
      '';
    };

    threshold = mkOption {
      type = types.ints.positive;
      default = 1;
      example = 2;
      description = "How many different operators must have signed a fleet document before this host believes it.";
    };

    bootstrap = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "/dns4/web-01.example.org/udp/7946/quic-v1/p2p/12D3Koo..." ];
      description = ''
        Members to connect to before this host holds a fleet document, as multiaddresses that end in `/p2p/` and the peer id
        of the member's host key.
      '';
    };

    listen = mkOption {
      type = types.listOf types.str;
      default = [
        "/ip4/0.0.0.0/udp/7946/quic-v1"
        "/ip4/0.0.0.0/tcp/7946"
      ];
      example = [ "/ip6/::/udp/7946/quic-v1" ];
      description = "The multiaddresses that the agent listens on.";
    };

    mdns = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to look for members on the local network. This version of the agent does not, so that turning it on is refused.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open the ports of `listen` in the firewall. Addresses on the loopback interface are left out.";
    };

    identityFile = mkOption {
      type = types.str;
      default = "/etc/ssh/ssh_host_ed25519_key";
      example = "/persist/etc/ssh/ssh_host_ed25519_key";
      description = ''
        The OpenSSH ed25519 private key that is this host's identity. systemd hands it to the agent as a credential, so the
        agent's user need not be able to read the file. It is a path on the host, never copied to the store.
      '';
    };

    healthChecks = mkOption {
      inherit (healthChecks) type;
      default = { };
      example = lib.literalExpression ''
        {
          site = { kind = "http"; url = "http://127.0.0.1/health"; };
          reachable = { kind = "peers"; min = 2; };
        }
      '';
      description = ''
        What this host must pass to count as healthy, by name. They become `/etc/muster/health-checks.json`, a part of the
        system closure.
      '';
    };

    privilegeSeparation = mkOption {
      type = types.bool;
      default = config.services.muster.activation.backend == "nixos";
      defaultText = lib.literalExpression ''config.services.muster.activation.backend == "nixos"'';
      description = ''
        For `nixos`: whether the agent, which talks to the network, runs as a user without any privilege, and leaves the switch
        to a helper that runs as root, has no network, and proves every order by the operators' and the coordinators'
        signatures before it acts. Without it the agent itself is root.
      '';
    };

    activation = {
      backend = mkOption {
        type = types.enum [
          "nixos"
          "directory"
        ];
        default = "nixos";
        description = ''
          How a release is put into effect. `nixos` sets the system profile and runs `switch-to-configuration`. `directory` runs
          the `activate` program of a folder of releases under `activation.root`, as the user `muster`.
        '';
      };

      root = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/srv/app";
        description = ''
          For `directory`: the folder that holds `releases/` and `current`. It is made when absent. Programs of a release run in
          the sandbox of the agent's unit, where nothing else outside `/var/lib/muster` can be written;
          `systemd.services.muster.serviceConfig.ReadWritePaths` gives them more.
        '';
      };

      defer = mkOption {
        type = types.listOf (
          types.enum [
            "dbus"
            "systemd"
            "kernel"
            "initrd"
          ]
        );
        default = [ "dbus" ];
        example = [
          "dbus"
          "kernel"
        ];
        description = "For `nixos`: components whose change waits for a reboot rather than being switched live.";
      };
    };

    metrics.listen = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "127.0.0.1:9746";
      description = "Where to serve metrics over HTTP. Null: on the control socket only. The firewall is not opened for it.";
    };

    hooks = mkOption {
      inherit (hooks) type;
      default = { };
      example = lib.literalExpression ''
        {
          pager = {
            events = [ "rollout-failed" "quarantined" "quorum-lost" ];
            command = [ "/run/current-system/sw/bin/page-the-operator" ];
          };
        }
      '';
      description = ''
        Whom the agent of this host calls when something happens, by name. Each host calls its own hooks, so one or two hosts of a
        fleet are enough.
      '';
    };

    group = mkOption {
      type = types.str;
      default = "muster";
      example = "wheel";
      description = "The group whose members may use the control socket.";
    };

    settings = mkOption {
      type = (pkgs.formats.toml { }).type;
      default = { };
      example = {
        retention_days = 30;
        relay = "auto";
      };
      description = ''
        Further keys of `/etc/muster/muster.toml`. The agent refuses to start on a key that it does not know. Keys that have
        an option of their own are set there.
      '';
    };
  };
}
