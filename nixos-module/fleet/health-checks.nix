# The health checks of each host: those of the fleet, of its tags, of its channel and its own. The narrowest declaration of a
# name is the one that counts, as a whole.
fleet:

let
  inherit (builtins)
    all
    attrNames
    concatMap
    concatStringsSep
    filter
    foldl'
    hasAttr
    head
    length
    mapAttrs
    tail
    ;

  # Where checks of a host may be declared, the narrowest place first; tags stand side by side.
  scopesOf =
    name:
    let
      host = fleet.hosts.${name};
      tag = tag: {
        place = "tag ${tag}";
        checks = fleet.tags.${tag}.healthChecks or { };
      };
    in
    [
      [
        {
          place = "the host";
          checks = host.healthChecks or { };
        }
      ]
      [
        {
          place = "channel ${host.channel}";
          checks = fleet.channels.${host.channel}.healthChecks or { };
        }
      ]
      (map tag (attrNames (builtins.listToAttrs (map (tag: { name = tag; value = null; }) (host.tags or [ ])))))
      [
        {
          place = "the fleet";
          checks = fleet.healthChecks or { };
        }
      ]
    ];

  # The places that declare a check, the narrowest first, in groups of equals.
  declaring = name: check: filter (group: group != [ ]) (map (filter (scope: hasAttr check scope.checks)) (scopesOf name));

  checksOf =
    name:
    attrNames (foldl' (found: scope: found // scope.checks) { } (concatMap (group: group) (scopesOf name)));

  chosen = name: check: (head (head (declaring name check))).checks.${check};
  places = group: concatStringsSep " and " (map (scope: scope.place) group);

  forEach = sentences: concatMap (name: concatMap (sentences name) (checksOf name)) (attrNames fleet.hosts);
in
{
  # By host, for `services.muster.healthChecks`.
  perHost = mapAttrs (
    name: _:
    builtins.listToAttrs (
      map (check: {
        name = check;
        value = chosen name check;
      }) (checksOf name)
    )
  ) fleet.hosts;

  # Two tags that disagree leave open which one holds.
  errors = forEach (
    name: check:
    let
      group = head (declaring name check);
    in
    if all (scope: scope.checks.${check} == (head group).checks.${check}) group then
      [ ]
    else
      [ "The health check ${check} of hosts.${name} is declared otherwise by ${places group}: declare it for the host or its channel." ]
  );

  warnings = forEach (
    name: check:
    let
      groups = declaring name check;
    in
    if length groups == 1 then
      [ ]
    else
      [ "The health check ${check} of hosts.${name} is the one of ${places (head groups)}, which shadows the one of ${places (concatMap (group: group) (tail groups))}." ]
  );
}
