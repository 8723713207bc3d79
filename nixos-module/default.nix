# The module: `services.muster` as files of the system, a user, open ports and units.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.muster;
  healthChecks = import ./health-checks.nix { inherit lib; };
  hooks = import ./hooks.nix { inherit lib; };
  names = import ./names.nix;

  onNixos = cfg.activation.backend == "nixos";
  separated = onNixos && cfg.privilegeSeparation;
  releases = lib.optional (!onNixos && cfg.activation.root != null) cfg.activation.root;

  # What the options say, in the words of muster.toml.
  fromOptions = {
    inherit (cfg)
      fleet
      host
      listen
      bootstrap
      mdns
      ;
    state_dir = names.stateDir;
    identity = cfg.identityFile;
    trust = names.trustFile;
    health_checks = names.healthChecksFile;
    activation = {
      inherit (cfg.activation) backend;
    }
    // lib.optionalAttrs onNixos { inherit (cfg.activation) defer; }
    // lib.optionalAttrs separated { helper = names.helperSocket; }
    // lib.optionalAttrs (releases != [ ]) { inherit (cfg.activation) root; };
  }
  // lib.optionalAttrs (cfg.metrics.listen != null) { metrics = { inherit (cfg.metrics) listen; }; }
  // lib.optionalAttrs (cfg.hooks != { }) { hook = hooks.render cfg.hooks; };

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
in
{
  imports = [
    ./options.nix
    ./assertions.nix
    ./units.nix
  ];

  config = lib.mkIf cfg.enable {
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

    users.groups = {
      ${cfg.group} = { };
    }
    // lib.optionalAttrs separated { ${names.helperGroup} = { }; };
    users.users = lib.mkIf (!onNixos || separated) {
      ${names.user} = {
        isSystemUser = true;
        group = if separated then names.helperGroup else cfg.group;
        # Programs that the agent runs, Nix for one, look for a home.
        home = names.stateDir;
        description = "muster agent";
      };
    };

    systemd.tmpfiles.rules = lib.concatMap (root: [
      "d ${root} 0755 ${names.user} ${cfg.group} -"
      "d ${root}/releases 0755 ${names.user} ${cfg.group} -"
    ]) releases;
  };
}
