# What a configuration must not say, and what it can hardly mean, each as a full sentence.
{ config, lib, ... }:

let
  cfg = config.services.muster;
  healthChecks = import ./health-checks.nix { inherit lib; };
  hooks = import ./hooks.nix { inherit lib; };
  names = import ./names.nix;

  onNixos = cfg.activation.backend == "nixos";

  # Keys of muster.toml that `settings` must leave alone, and the option that sets each; null: the unit depends on its value.
  ownedKeys = [
    [ [ "fleet" ] "fleet" ]
    [ [ "host" ] "host" ]
    [ [ "listen" ] "listen" ]
    [ [ "bootstrap" ] "bootstrap" ]
    [ [ "mdns" ] "mdns" ]
    [ [ "identity" ] "identityFile" ]
    [ [ "activation" "backend" ] "activation.backend" ]
    [ [ "activation" "root" ] "activation.root" ]
    [ [ "activation" "defer" ] "activation.defer" ]
    [ [ "activation" "helper" ] "privilegeSeparation" ]
    [ [ "metrics" "listen" ] "metrics.listen" ]
    [ [ "hook" ] "hooks" ]
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

  separated = onNixos && cfg.privilegeSeparation;
  # The agent has the Nix daemon fetch what it switches to, which is the only thing that it asks of it.
  mayAskNix = user: user == "*" || user == names.user || lib.hasPrefix "@" user;
  opensshKeys = "/etc/ssh/ssh_host_";
in
{
  config = lib.mkIf cfg.enable {
    warnings =
      lib.optional (separated && !(builtins.any mayAskNix config.nix.settings.allowed-users))
        "nix.settings.allowed-users leaves out ${names.user}, the user of the muster agent: the Nix daemon would fetch no release for it."
      ++
        lib.optional (lib.hasPrefix opensshKeys cfg.identityFile && !config.services.openssh.enable)
          "services.muster.identityFile is ${cfg.identityFile}, but services.openssh is off, which would make it: without that file the agent does not start."
      ++
        lib.optional (onNixos && config.system.autoUpgrade.enable)
          "system.autoUpgrade switches this host too, past the fleet: muster would take it back to what operators signed only at the next release.";

    assertions =
      operatorAssertions
      ++ [
        {
          assertion = builtins.match "[a-z][a-z0-9-]{0,62}" cfg.fleet != null;
          message = "services.muster.fleet is \"${cfg.fleet}\", but the name of a fleet is a lower-case letter and at most 62 lower-case letters, digits and hyphens.";
        }
        {
          assertion = builtins.match "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" cfg.host != null;
          message = "services.muster.host is \"${cfg.host}\", but the name of a host is 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end.";
        }
        {
          assertion = cfg.listen != [ ];
          message = "services.muster.listen is empty: the agent needs an address to listen on.";
        }
        {
          assertion = !cfg.mdns;
          message = "services.muster.mdns is on, but this version of the agent does not look for members on the local network: name some of them in services.muster.bootstrap.";
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
          assertion = onNixos || !cfg.privilegeSeparation;
          message = "services.muster.privilegeSeparation has no meaning when services.muster.activation.backend is directory, which needs no root.";
        }
        {
          assertion = cfg.group != names.helperGroup;
          message = "services.muster.group must not be ${names.helperGroup}: its members could ask the privileged helper for a switch.";
        }
        {
          assertion = !(lib.hasPrefix builtins.storeDir cfg.identityFile);
          message = "services.muster.identityFile lies in the Nix store, where every user could read the private key.";
        }
      ]
      ++ map bootstrapAssertion cfg.bootstrap
      ++ map ownedKeyAssertion ownedKeys
      ++ healthChecks.assertions cfg.healthChecks
      ++ hooks.assertions cfg.hooks;
  };
}
