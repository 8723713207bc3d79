# The rules between the parts of a fleet whose parts have the right form. Gives the sentences that say which ones it breaks.
fleet:

let
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    hasAttr
    head
    length
    listToAttrs
    ;

  keys = import ./keys.nix;
  inherit (import ./selection.nix fleet) resolve coordinators waveOf;

  # The most coordinators, and how many hosts may go without saying who coordinates.
  coordinatorsMax = 7;
  unnamedMax = 5;

  unless = condition: sentence: if condition then [ ] else [ sentence ];
  number = function: list: concatLists (genList (at: function (at + 1) (elemAt list at)) (length list));
  hostNames = attrNames fleet.hosts;
  setOf = names: listToAttrs (map (name: { inherit name; value = null; }) names);
  tagsOfHosts = setOf (concatMap (host: host.tags or [ ]) (attrValues fleet.hosts));
  knowsTag = tag: hasAttr tag (fleet.tags or { }) || hasAttr tag tagsOfHosts;
  knowsChannel = place: channel: unless (hasAttr channel fleet.channels) "${place} names channel ${channel}, which is not declared.";

  # What a selector names has to be there.
  known =
    place: selector:
    let
      key = head (attrNames selector);
      value = selector.${key};
      tag = name: unless (knowsTag name) "${place} names tag ${name}, which no host has and tags does not declare.";
      host = name: unless (hasAttr name fleet.hosts) "${place} names host ${name}, which is not declared.";
    in
    {
      tags = concatMap tag value;
      tagsAny = concatMap tag value;
      hosts = concatMap host value;
      channel = knowsChannel place value;
      all = [ ];
      not = known place value;
      and = concatMap (known place) value;
    }
    .${key};

  # Pairs of names whose lines have one key.
  oneKey =
    what: lines:
    let
      step =
        { first, sentences }:
        name:
        let
          identity = keys.identity lines.${name};
        in
        if hasAttr identity first then
          {
            inherit first;
            sentences = sentences ++ [ "The ${what} ${first.${identity}} and ${name} have one key." ];
          }
        else
          {
            first = first // {
              ${identity} = name;
            };
            inherit sentences;
          };
    in
    (foldl' step {
      first = { };
      sentences = [ ];
    } (attrNames lines)).sentences;

  operators =
    let
      count = length (attrNames fleet.operators);
      threshold =
        which:
        unless (
          fleet.thresholds.${which} <= count
        ) "thresholds.${which} is ${toString fleet.thresholds.${which}}, and has to be 1 to ${toString count}, the number of operators.";
    in
    if count == 0 then
      [ "A fleet has at least one operator." ]
    else
      oneKey "operators" fleet.operators
      ++ concatMap threshold [
        "fleet"
        "channelRef"
        "command"
      ];

  hosts =
    unless (hostNames != [ ]) "A fleet has at least one host."
    ++ oneKey "hosts" (builtins.mapAttrs (_: host: host.key) fleet.hosts)
    ++ concatMap (name: knowsChannel "hosts.${name}" fleet.hosts.${name}.channel) hostNames;

  policies =
    concatMap (
      channel:
      let
        policy = fleet.channels.${channel}.rolloutPolicy;
      in
      unless (hasAttr policy fleet.rolloutPolicies) "channels.${channel} has the rollout policy ${policy}, which is not declared."
    ) (attrNames fleet.channels)
    ++ concatMap (
      policy:
      number (
        at: wave: known "rolloutPolicies.${policy}.waves.${toString at}" wave.selector
      ) fleet.rolloutPolicies.${policy}.waves
    ) (attrNames fleet.rolloutPolicies);

  electorate =
    let
      asked = fleet.coordinators or { };
      founders = asked.founders or [ ];
      identities = map keys.identity founders;
      found = length coordinators;
    in
    (if asked ? selector then known "coordinators.selector" asked.selector else [ ])
    ++ (
      if !(asked ? selector) && length hostNames > unnamedMax then
        [ "A fleet of more than ${toString unnamedMax} hosts has to say who coordinates, and this one has ${toString (length hostNames)}: set coordinators.selector." ]
      else
        unless (
          1 <= found && found <= coordinatorsMax
        ) "${toString found} hosts are coordinators, and there have to be 1 to ${toString coordinatorsMax}."
    )
    ++ unless (
      asked.tolerate or "crash" == "crash" || found >= 4
    ) "coordinators.tolerate is \"lies\", which needs at least 4 coordinators, and there are ${toString found}."
    ++ unless (
      length founders <= coordinatorsMax
      && all (key: length (filter (other: other == key) identities) == 1) identities
    ) "coordinators.founders has to list 1 to ${toString coordinatorsMax} keys, each once."
    ++ unless (!(fleet ? replaces && asked ? founders)) "A recovery starts a new log: coordinators.founders has no place in it."
    ++ unless ((fleet.recovery or false) == (fleet ? replaces)) "recovery and replaces come together or not at all.";

  # Each host in a wave, and each wave with a host on one of the channels that follow its policy.
  waves =
    concatMap (
      name:
      let
        inherit (fleet.hosts.${name}) channel;
      in
      unless (
        waveOf name != null
      ) "No wave of policy ${fleet.channels.${channel}.rolloutPolicy} of channel ${channel} selects hosts.${name}."
    ) hostNames
    ++ concatMap (
      policy:
      let
        follows = name: fleet.channels.${fleet.hosts.${name}.channel}.rolloutPolicy == policy;
        filled = map waveOf (filter follows hostNames);
      in
      if filled == [ ] then
        [ ]
      else
        number (
          at: _:
          unless (elem at filled)
            "rolloutPolicies.${policy}.waves.${toString at} selects no host that an earlier wave leaves, on any channel of that policy."
        ) fleet.rolloutPolicies.${policy}.waves
    ) (attrNames fleet.rolloutPolicies);

  edgeNames = number (
    at: edge:
    known "edges.${toString at}.gates" edge.gates ++ known "edges.${toString at}.gated" edge.gated
  ) (fleet.edges or [ ]);
  channelEdgeNames = number (
    at: edge: concatMap (knowsChannel "channelEdges.${toString at}") [ edge.gates edge.gated ]
  ) (fleet.channelEdges or [ ]);

  # Edges hold within a rollout, thus between hosts of one channel.
  gatedTooEarly = number (
    at: edge:
    let
      pair =
        gate: gated:
        let
          apart = fleet.hosts.${gate}.channel != fleet.hosts.${gated}.channel;
        in
        unless (
          apart || waveOf gated >= waveOf gate
        ) "edges.${toString at} makes ${gated} of wave ${toString (waveOf gated)} wait for ${gate} of wave ${toString (waveOf gate)}, and a gated host cannot be in an earlier wave than its gate.";
    in
    concatMap (gate: concatMap (pair gate) (resolve edge.gated)) (resolve edge.gates)
  ) (fleet.edges or [ ]);

  # Takes away, round by round, whoever waits for nobody that is left. Those who remain wait for each other.
  cycle =
    what: pairs:
    let
      edges = map (pair: { inherit (pair) gates; gated = setOf pair.gated; }) pairs;
      waiting =
        left:
        let
          isLeft = setOf left;
          closed = filter (edge: any (gate: hasAttr gate isLeft) edge.gates) edges;
          next = filter (name: any (edge: hasAttr name edge.gated) closed) left;
        in
        if length next == length left then left else waiting next;
      left = waiting (attrNames (setOf (concatMap (pair: pair.gates ++ pair.gated) pairs)));
      gateOf = name: head (filter (gate: elem gate left) (concatMap (edge: if hasAttr name edge.gated then edge.gates else [ ]) edges));
      # From gated to gate, until a name comes again.
      walk = path: name: if elem name path then [ name ] ++ takeUntil name path ++ [ name ] else walk ([ name ] ++ path) (gateOf name);
      takeUntil = name: path: if head path == name then [ ] else [ (head path) ] ++ takeUntil name (builtins.tail path);
    in
    if left == [ ] then [ ] else [ "${what} form a cycle: ${concatStringsSep " before " (walk [ ] (head left))}." ];

  budgets = number (at: budget: known "disruptionBudgets.${toString at}.selector" budget.selector) (
    fleet.disruptionBudgets or [ ]
  );

  # What looks at waves and resolved edges needs every name in them to be there.
  names = operators ++ hosts ++ policies ++ edgeNames ++ channelEdgeNames ++ budgets;
in
if names != [ ] then
  names
else
  electorate
  ++ waves
  ++ cycle "edges" (
    map (edge: {
      gates = resolve edge.gates;
      gated = resolve edge.gated;
    }) (fleet.edges or [ ])
  )
  ++ cycle "channelEdges" (
    map (edge: {
      gates = [ edge.gates ];
      gated = [ edge.gated ];
    }) (fleet.channelEdges or [ ])
  )
  ++ (if any (name: waveOf name == null) hostNames then [ ] else gatedTooEarly)
