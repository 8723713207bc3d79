# Which hosts of a fleet selectors, waves and the coordinators come to.
fleet:

let
  inherit (builtins)
    all
    any
    attrNames
    elem
    elemAt
    filter
    genList
    head
    length
    ;

  selects =
    selector: name:
    let
      key = head (attrNames selector);
      value = selector.${key};
      host = fleet.hosts.${name};
      has = tag: elem tag (host.tags or [ ]);
    in
    {
      tags = all has value;
      tagsAny = any has value;
      hosts = elem name value;
      channel = host.channel == value;
      all = true;
      not = !(selects value name);
      and = all (part: selects part name) value;
    }
    .${key};

  resolve = selector: filter (selects selector) (attrNames fleet.hosts);

  # Worked out once for each host.
  waveByHost = builtins.mapAttrs (
    name: host:
    let
      inherit (fleet.rolloutPolicies.${fleet.channels.${host.channel}.rolloutPolicy}) waves;
      numbers = filter (at: selects (elemAt waves (at - 1)).selector name) (genList (at: at + 1) (length waves));
    in
    if numbers == [ ] then null else head numbers
  ) fleet.hosts;
in
{
  inherit resolve;

  coordinators = resolve (fleet.coordinators.selector or { all = true; });

  # The number, from 1, of the first wave that selects a host; null if none does.
  waveOf = name: waveByHost.${name};
}
