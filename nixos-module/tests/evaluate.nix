# Evaluates the module as a NixOS system would, with just the options of NixOS that it sets or reads.
{ lib }:

let
  inherit (lib) mkOption types;
  freeform = default: mkOption { inherit default; type = types.attrsOf types.anything; };
  strings = mkOption { type = types.listOf types.str; default = [ ]; };
  ports = mkOption { type = types.listOf types.port; default = [ ]; };

  nixos = {
    options = {
      assertions = mkOption { type = types.listOf types.anything; default = [ ]; };
      environment = {
        etc = freeform { };
        systemPackages = mkOption { type = types.listOf types.package; default = [ ]; };
      };
      networking = {
        hostName = mkOption { type = types.str; default = "web-01"; };
        firewall = {
          allowedTCPPorts = ports;
          allowedUDPPorts = ports;
        };
      };
      nix = {
        package = mkOption { type = types.package; default = package "nix"; };
        settings = {
          allowed-users = mkOption { type = types.listOf types.str; default = [ "*" ]; };
          substituters = strings;
        };
      };
      services.openssh.enable = mkOption { type = types.bool; default = true; };
      system.autoUpgrade.enable = mkOption { type = types.bool; default = false; };
      warnings = strings;
      systemd = {
        services = freeform { };
        sockets = freeform { };
        tmpfiles.rules = strings;
      };
      users = {
        groups = freeform { };
        users = freeform { };
      };
    };
  };

  package = name: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
  };

  pkgs = {
    # What is generated is kept as the value it was made of.
    formats.toml = _: {
      type = types.attrsOf types.anything;
      generate = name: value: { inherit name value; };
    };
    callPackage = _: _: package "muster";
    util-linux = package "util-linux";
    stdenv.hostPlatform.system = "x86_64-linux";
  };

  # A system with muster on, and with all that has no default.
  base = {
    services.muster = {
      enable = lib.mkDefault true;
      fleet = lib.mkDefault "home";
      operators = lib.mkDefault { alice = "ssh-ed25519 AAAAalice alice@example.org"; };
    };
  };
  evaluate =
    modules:
    lib.evalModules {
      modules = [
        nixos
        base
      ]
      ++ modules;
      specialArgs = { inherit pkgs; };
    };

  viewOf =
    modules:
    let
      inherit (evaluate modules) config;
      etc = config.environment.etc;
    in
    {
      broken = map (entry: entry.message) (builtins.filter (entry: !entry.assertion) config.assertions);
      inherit (config) warnings;
      files = builtins.attrNames etc;
      toml = etc."muster/muster.toml".source.value;
      trust = builtins.fromJSON etc."muster/trust.json".text;
      checks = builtins.fromJSON etc."muster/health-checks.json".text;
      service = config.systemd.services.muster.serviceConfig;
      unit = config.systemd.services.muster;
      units = config.systemd.services;
      helper = config.systemd.services."muster-activate@";
      sockets = config.systemd.sockets;
      firewall = {
        tcp = config.networking.firewall.allowedTCPPorts;
        udp = config.networking.firewall.allowedUDPPorts;
      };
      tmpfiles = config.systemd.tmpfiles.rules;
      users = config.users.users;
      groups = builtins.attrNames config.users.groups;
    };
in
{
  # The options of the module.
  options = import ../collect-options.nix { inherit lib; } (evaluate [ ../. ]).options.services.muster;

  inherit package;

  # What the tests look at, in one flat set.
  view = module: viewOf [ ../. module ];
  # The same of other modules, which must bring the one under test.
  inherit viewOf;
}
