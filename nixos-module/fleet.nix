# mkFleet: what a fleet is, written in Nix, as its fleet document, the targets of its channels, and what its hosts have to be
# told. It needs nothing but Nix itself.
value:

let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    filter
    hasAttr
    listToAttrs
    mapAttrs
    ;

  keys = import ./fleet/keys.nix;

  configurations = value.nixosConfigurations or { };
  fleet = removeAttrs value [ "nixosConfigurations" ];

  # Each step looks at what the one before has let through.
  formErrors = import ./fleet/form.nix fleet;
  ruleErrors = import ./fleet/rules.nix fleet;
  checks = import ./fleet/health-checks.nix fleet;
  errors =
    if formErrors != [ ] then
      formErrors
    else if ruleErrors != [ ] then
      ruleErrors
    else
      checks.errors;
  valid =
    result:
    if errors == [ ] then
      result
    else
      throw "The fleet is not valid:\n${concatStringsSep "\n" (map (sentence: "  - ${sentence}") errors)}";

  withoutChecks = part: removeAttrs part [ "healthChecks" ];

  document =
    withoutChecks fleet
    // {
      kind = "muster/fleet/1";
      hosts = mapAttrs (_: withoutChecks) fleet.hosts;
      channels = mapAttrs (_: withoutChecks) fleet.channels;
    }
    // (if fleet ? tags then { tags = mapAttrs (_: withoutChecks) fleet.tags; } else { });

  # As text that Nix still knows what to build for.
  targetOf = name: "${configurations.${name}.config.system.build.toplevel}";
  onChannel = channel: name: fleet.hosts.${name}.channel == channel && hasAttr name configurations;
  targets = mapAttrs (
    channel: _:
    listToAttrs (
      map (name: {
        inherit name;
        value = targetOf name;
      }) (filter (onChannel channel) (attrNames fleet.hosts))
    )
  ) fleet.channels;

  # Whom a host that knows nobody asks for the fleet document: the coordinators, at the addresses that they have in it.
  peers = concatMap (
    name:
    map (address: {
      inherit name;
      address = if builtins.match ".*/p2p/.+" address != null then address else "${address}/p2p/${keys.peerId fleet.hosts.${name}.key}";
    }) (fleet.hosts.${name}.addresses or [ ])
  ) (import ./fleet/selection.nix fleet).coordinators;

  modules = mapAttrs (name: _: {
    services.muster = {
      enable = true;
      inherit (fleet) fleet operators;
      host = name;
      threshold = fleet.thresholds.fleet;
      bootstrap = map (peer: peer.address) (filter (peer: peer.name != name) peers);
      healthChecks = checks.perHost.${name};
    };
  }) fleet.hosts;

  configurationWarnings =
    if value ? nixosConfigurations then
      map (name: "hosts.${name} has no nixosConfigurations.${name}, and gets no target.") (
        filter (name: !(hasAttr name configurations)) (attrNames fleet.hosts)
      )
      ++ map (name: "nixosConfigurations.${name} is no host of the fleet.") (
        filter (name: !(hasAttr name fleet.hosts)) (attrNames configurations)
      )
    else
      [ ];
in
{
  # What is wrong, in sentences. Everything else can be had only if that is nothing.
  inherit errors;
  # What is valid and yet looks like a mistake.
  warnings = valid (checks.warnings ++ configurationWarnings);
  # What operators sign, to be written as JSON.
  document = valid document;
  # By channel, what `muster sign channel-ref --targets` takes: each host's closure.
  targets = valid targets;
  # By host, what `services.muster.healthChecks` takes.
  healthChecks = valid checks.perHost;
  # By host, a NixOS module that sets all of `services.muster` that the fleet knows.
  modules = valid modules;
}
