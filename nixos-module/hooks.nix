# Whom the agent of a host calls: their option type, what may not be said of them, and the tables of muster.toml.
{ lib }:

let
  inherit (lib) mkOption types;

  events = [
    "all"
    "rollout-opened"
    "rollout-completed"
    "rollout-failed"
    "rollout-reverted"
    "rollout-superseded"
    "quarantined"
    "host-failed"
    "host-reverted"
    "host-deferred"
    "quorum-lost"
    "quorum-restored"
  ];

  hook = types.submodule {
    options = {
      events = mkOption {
        type = types.listOf (types.enum events);
        example = [
          "rollout-failed"
          "quarantined"
          "quorum-lost"
        ];
        description = "What it is called for. `all`, alone, stands for every event.";
      };
      command = mkOption {
        type = types.nullOr (types.listOf types.str);
        default = null;
        example = [ "/run/current-system/sw/bin/tell-the-chat" ];
        description = ''
          The program, by its whole path, and its arguments. It is run without a shell, as the agent's user and inside the sandbox
          of its unit, and reads the JSON on stdin.
        '';
      };
      url = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "https://pager.example.org/muster";
        description = ''
          Where the JSON is posted. Every user of the host can read it in `/etc/muster/muster.toml`; a program can keep a URL that
          is a secret.
        '';
      };
      caFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/etc/ssl/certs/own-authority.pem";
        description = "For an https `url`: the file of the authorities whose certificates are believed; those of the system when null.";
      };
      timeoutSeconds = mkOption {
        type = types.ints.between 1 300;
        default = 30;
        description = "Seconds after which one call has failed. A program is killed then, with its children.";
      };
      tries = mkOption {
        type = types.ints.between 1 100;
        default = 20;
        description = "How often a call is tried before it is given up: after 1 s, 2 s, 4 s and so on, up to 10 minutes, and for a day at most.";
      };
    };
  };

  assertionsOf =
    name: value:
    let
      where = "services.muster.hooks.${name}";
      https = value.url != null && lib.hasPrefix "https://" value.url;
    in
    [
      {
        assertion = builtins.match "[a-z0-9-]{1,32}" name != null;
        message = "${where} is not a name for a hook: it must be 1 to 32 lower-case letters, digits and hyphens.";
      }
      {
        assertion = value.events != [ ];
        message = "${where} names no events: it would never be called.";
      }
      {
        assertion = !(builtins.elem "all" value.events) || value.events == [ "all" ];
        message = "${where} names all and other events: all stands for every one of them.";
      }
      {
        assertion = (value.command == null) != (value.url == null);
        message = "${where} must set either command or url.";
      }
      {
        assertion = value.command == null || (value.command != [ ] && lib.hasPrefix "/" (builtins.head value.command));
        message = "${where} must name the program to run by its whole path.";
      }
      {
        assertion = value.url == null || https || lib.hasPrefix "http://" value.url;
        message = "${where} has a url that does not begin with http:// or https://.";
      }
      {
        assertion = value.caFile == null || https;
        message = "${where} has a caFile without an https url.";
      }
      {
        assertion = value.caFile == null || lib.hasPrefix "/" value.caFile;
        message = "${where} has the caFile ${toString value.caFile}, which is not a path from the root.";
      }
    ];

  table =
    name: value:
    {
      inherit name;
      inherit (value) events tries;
      timeout_seconds = value.timeoutSeconds;
    }
    // lib.optionalAttrs (value.command != null) { inherit (value) command; }
    // lib.optionalAttrs (value.url != null) { inherit (value) url; }
    // lib.optionalAttrs (value.caFile != null) { ca_file = value.caFile; };
in
{
  type = types.attrsOf hook;

  # Every sentence that a set of hooks may break, as NixOS assertions.
  assertions =
    hooks:
    [
      {
        assertion = builtins.length (builtins.attrNames hooks) <= 16;
        message = "services.muster.hooks has more than 16 hooks.";
      }
    ]
    ++ lib.concatMap (name: assertionsOf name hooks.${name}) (builtins.attrNames hooks);

  # The [[hook]] tables of muster.toml.
  render = lib.mapAttrsToList table;
}
