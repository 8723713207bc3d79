# The files and units that the NixOS module of this repository makes for some hosts, by the path that each has on their disks.
# `hosts` is JSON: the options under `services.muster` for each host.
{ module, hosts }:
let
  lib = import (module + "/tests/stand-in-lib.nix");
  inherit (import (module + "/tests/evaluate.nix") { inherit lib; }) view;
  render = import (module + "/tests/render-unit.nix") { inherit lib; };

  package = {
    type = "derivation";
    name = "muster";
    outPath = "/opt/muster";
  };
  lines = list: lib.concatStringsSep "\n" (list ++ [ "" ]);
  unitsOf =
    kind: units:
    lib.mapAttrsToList (name: unit: {
      name = "/etc/systemd/system/${name}.${kind}";
      value = render.${kind} unit;
    }) units;

  filesOf =
    options:
    let
      seen = view { services.muster = options // { inherit package; }; };
      user = name: value: "u ${name} -:${value.group} - ${value.home or "/"}";
    in
    assert seen.broken == [ ];
    {
      inherit (seen) toml;
      files = {
        "/etc/muster/trust.json" = builtins.toJSON seen.trust;
        "/etc/tmpfiles.d/muster.conf" = lines seen.tmpfiles;
        "/etc/sysusers.d/muster.conf" = lines (map (name: "g ${name} -") seen.groups ++ lib.mapAttrsToList user seen.users);
      }
      // builtins.listToAttrs (unitsOf "service" seen.units ++ unitsOf "socket" seen.sockets);
      # What each unit is to be started by.
      wanted =
        lib.concatMap (name: map (by: { unit = "${name}.service"; inherit by; }) (seen.units.${name}.wantedBy or [ ])) (
          builtins.attrNames seen.units
        )
        ++ lib.concatMap (name: map (by: { unit = "${name}.socket"; inherit by; }) seen.sockets.${name}.wantedBy) (
          builtins.attrNames seen.sockets
        );
    };
in
builtins.mapAttrs (_: filesOf) (builtins.fromJSON hosts)
