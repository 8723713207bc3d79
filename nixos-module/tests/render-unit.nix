# A unit of the NixOS kind as the text of a unit file, for systemd's own checkers.
{ lib }:

let
  text = value: if value == true then "true" else if value == false then "false" else toString value;
  line = key: value: map (item: "${key}=${text item}") (if builtins.isList value then value else [ value ]);
  section = name: keys: [ "[${name}]" ] ++ lib.concatMap (key: line key keys.${key}) (builtins.attrNames keys) ++ [ "" ];
  variables = unit: lib.mapAttrsToList (name: value: ''"${name}=${value}"'') (unit.environment or { });

  render =
    unit: special:
    lib.concatStringsSep "\n" (
      section "Unit" (
        {
          Description = unit.description;
          After = unit.after or [ ];
          Wants = unit.wants or [ ];
        }
        // unit.unitConfig or { }
      )
      ++ special
      ++ section "Install" { WantedBy = unit.wantedBy or [ ]; }
    );
in
{
  service = unit: render unit (section "Service" (unit.serviceConfig // { Environment = variables unit; }));
  socket = unit: render unit (section "Socket" unit.socketConfig);
}
