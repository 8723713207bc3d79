# The health checks of a host: their option type, what each kind needs, and the JSON that the agent reads.
{ lib }:

let
  inherit (lib) mkOption types;

  kinds = import ./check-kinds.nix;

  kindKeys = lib.unique (lib.concatMap (kind: kind.required ++ kind.optional) (builtins.attrValues kinds));

  mode = mkOption {
    type = types.enum [
      "enforce"
      "observe"
      "disabled"
    ];
    default = "enforce";
    description = ''
      `enforce`: a failure counts against the release that the host runs. `observe`: it is only shown. `disabled`: not run.
    '';
  };

  # The agent refuses a file in which a number is out of its bounds, and with it the release.
  seconds = types.ints.between 1 86400;

  # A key that only some kinds have; null leaves it out of the file.
  forKind =
    kind: type: example: description:
    mkOption {
      inherit example;
      type = types.nullOr type;
      default = null;
      description = "For `${kind}`: ${description}";
    };

  controlOverride = types.submodule {
    options = {
      inherit mode;
      reason = mkOption {
        type = types.str;
        example = "accepted until the new firewall is in place";
        description = "Why this control is treated otherwise.";
      };
    };
  };

  check = types.submodule {
    options = {
      inherit mode;
      kind = mkOption {
        type = types.enum (builtins.attrNames kinds);
        example = "http";
        description = "What is probed. Each kind has keys of its own, named at their options.";
      };
      intervalSeconds = mkOption {
        type = seconds;
        default = 30;
        description = "Seconds from one probe to the next.";
      };
      timeoutSeconds = mkOption {
        type = seconds;
        default = 10;
        description = "Seconds after which a probe without an answer has failed.";
      };

      url = forKind "http" types.str "http://127.0.0.1/health" "the address asked with GET, `http://` or `https://`.";
      caFile = forKind "http" types.str "/etc/ssl/own-ca.pem" ''
        a file of certificates, in PEM, of the authorities that an `https://` server's certificate must lead to; those of
        the system when null.
      '';
      expectStatus = forKind "http" (types.ints.between 100 599) 204 "the status that passes; 200 when null.";
      bodyContains = forKind "http" types.str "ok" "a text that the body must contain.";
      host = forKind "tcp" types.str "127.0.0.1" "the host connected to.";
      port = forKind "tcp" types.port 5432 "the port connected to.";
      command = forKind "exec" (types.listOf types.str) [ "/run/current-system/sw/bin/queue-is-short" ] ''
        the program and its arguments, run without a shell, as the agent's user and inside the sandbox of its unit.
      '';
      expectExitCode = forKind "exec" (types.ints.between 0 255) 3 "the exit code that passes; 0 when null.";
      units = forKind "systemd" (types.listOf types.str) [ "nginx.service" ] "units that must be active.";
      maxFailedUnits = forKind "systemd" types.ints.unsigned 0 "how many units of the system may be failed.";
      min = forKind "peers" (types.ints.between 1 10000) 2 ''
        how many members of the fleet must be reachable. This is what notices a release that cut the host off.
      '';
      framework = forKind "evidence" types.str "iso27001" "the name of the framework that the evidence follows.";
      evidencePath = forKind "evidence" types.str "/var/lib/evidence/report.json" "the signed JSON file, read again whenever it changes.";
      controlOverrides =
        forKind "evidence" (types.attrsOf controlOverride)
          {
            "A.8.9" = {
              mode = "observe";
              reason = "accepted until the new firewall is in place";
            };
          }
          "controls treated otherwise, by their id.";
    };
  };

  given = value: builtins.filter (key: value.${key} != null) kindKeys;

  assertionsOf =
    name: value:
    let
      inherit (kinds.${value.kind}) required optional;
      where = "services.muster.healthChecks.${name}";
      foreign = builtins.filter (key: !(builtins.elem key (required ++ optional))) (given value);
      missing = builtins.filter (key: value.${key} == null) required;
      unitsWithoutType = builtins.filter (unit: builtins.match "[A-Za-z0-9:_.\\\\@][A-Za-z0-9:_.\\\\@-]*[.][a-z]+" unit == null) (
        if value.units == null then [ ] else value.units
      );
    in
    [
      {
        assertion = builtins.match "[a-z][a-z0-9-]{0,62}" name != null;
        message = "${where} is not a name for a health check: it must be 1 to 63 lower-case letters, digits and hyphens, and begin with a letter.";
      }
      {
        assertion = missing == [ ];
        message = "${where} is of kind ${value.kind} and must set ${lib.concatStringsSep " and " missing}.";
      }
      {
        assertion = foreign == [ ];
        message = "${where} is of kind ${value.kind}, which has no ${lib.concatStringsSep " and no " foreign}.";
      }
      {
        assertion = value.kind != "systemd" || value.units != null || value.maxFailedUnits != null;
        message = "${where} is of kind systemd and checks nothing: it must set units or maxFailedUnits.";
      }
      {
        assertion = value.url == null || lib.hasPrefix "http://" value.url || lib.hasPrefix "https://" value.url;
        message = "${where} has the url ${toString value.url}, which begins neither with http:// nor with https://: the agent speaks nothing else.";
      }
      {
        assertion = value.caFile == null || (lib.hasPrefix "/" value.caFile && value.url != null && lib.hasPrefix "https://" value.url);
        message = "${where} has the caFile ${toString value.caFile}, which must be a path from the root, for a url that begins with https://.";
      }
      {
        assertion = unitsWithoutType == [ ];
        message = "${where} names ${lib.concatStringsSep ", " unitsWithoutType}, but a unit is named in full, such as nginx.service.";
      }
      {
        assertion = value.evidencePath == null || lib.hasPrefix "/" value.evidencePath;
        message = "${where} has the evidencePath ${toString value.evidencePath}, which is not a path from the root.";
      }
      {
        assertion = value.command != [ ];
        message = "${where} has an empty command: it must name the program to run.";
      }
    ];

in
{
  type = types.attrsOf check;

  # Every sentence that a set of checks may break, as NixOS assertions.
  assertions = checks: lib.concatMap (name: assertionsOf name checks.${name}) (builtins.attrNames checks);

  # What health-checks.json says: nothing that was not set, for an unset key has no place in a kind that lacks it.
  render = builtins.mapAttrs (_: lib.filterAttrs (_: value: value != null));
}
