# A service of the NixOS kind as the text of a unit file, for systemd's own checkers.
{ lib }:

unit:
let
  text = value: if value == true then "true" else if value == false then "false" else toString value;
  line = key: value: map (item: "${key}=${text item}") (if builtins.isList value then value else [ value ]);
  section = name: keys: [ "[${name}]" ] ++ lib.concatMap (key: line key keys.${key}) (builtins.attrNames keys) ++ [ "" ];
  variables = lib.mapAttrsToList (name: value: ''"${name}=${value}"'') unit.environment;
in
lib.concatStringsSep "\n" (
  section "Unit" (
    {
      Description = unit.description;
      After = unit.after;
    }
    // unit.unitConfig
  )
  ++ section "Service" (unit.serviceConfig // { Environment = variables; })
  ++ section "Install" { WantedBy = unit.wantedBy; }
)
