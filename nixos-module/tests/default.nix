# Runs every case. `lines` tells how each went, `failed` names those that did not go well; `all` is everything that was seen,
# and must be the same whichever `lib` evaluates it; `units` are unit files for systemd to look at, `refused` are documents that
# `muster fleet check` must not take.
{ lib ? import ./stand-in-lib.nix }:

let
  inherit (import ./evaluate.nix { inherit lib; }) view options;
  render = import ./render-unit.nix { inherit lib; };
  fleets = import ./fleets.nix;
  wrongTypes = import ./wrong-types.nix;

  try = value: builtins.tryEval (builtins.deepSeq value value);

  # The text of each unit of a configuration, by its file.
  unitsOf =
    seen:
    let
      files = kind: units: lib.mapAttrsToList (name: unit: { name = "${name}.${kind}"; value = render.${kind} unit; }) units;
    in
    builtins.listToAttrs (files "service" seen.units ++ files "socket" seen.sockets);

  systems = builtins.mapAttrs (
    _: muster:
    let
      seen = view { services.muster = muster; };
    in
    {
      inherit (seen)
        broken
        checks
        firewall
        groups
        tmpfiles
        toml
        trust
        ;
      units = unitsOf seen;
      users = builtins.attrNames seen.users;
    }
  ) (import ./systems.nix);

  # The value of another type is refused and the right one is not, so that nothing else can be the reason.
  ofValues =
    bad: good:
    let
      taken = value: (try (view { services.muster = value; })).success;
    in
    {
      seen = {
        bad = taken bad;
        good = taken good;
      };
      want = {
        bad = false;
        good = true;
      };
    };
  # A case: what is seen, and what should be. `null` as the seen says that the evaluation failed.
  ofCase =
    case:
    let
      outcome = try (case.see (view case.given));
    in
    if case ? refused then
      ofValues case.refused case.taken
    else
      {
        seen = if outcome.success then outcome.value else null;
        inherit (case) want;
      };
  nest =
    path: value:
    builtins.foldl' (inner: name: { ${name} = inner; }) value (
      builtins.foldl' (reversed: name: [ name ] ++ reversed) [ ] (
        builtins.filter builtins.isString (builtins.split "\\." path)
      )
    );
  ofType =
    path: values:
    let
      # Below the name of a check, the values are the whole set of checks.
      top = builtins.head (builtins.match "([^<]+)(\\.<name>.*)?" path);
    in
    ofValues (nest top values.bad) (nest top values.good);

  prefixed = prefix: lib.mapAttrsToList (name: value: { name = "${prefix}${name}"; inherit value; });
  cases = builtins.listToAttrs (
    prefixed "" (builtins.mapAttrs (_: ofCase) (import ./cases.nix))
    ++ prefixed "wrong type: " (builtins.mapAttrs ofType wrongTypes)
    ++ prefixed "mkFleet: " fleets.cases
    ++ prefixed "" (import ./flake-outputs.nix { inherit lib; })
    ++ prefixed "the module of a fleet's host breaks no assertion: " (
      builtins.mapAttrs (_: module: {
        seen = (view module).broken;
        want = [ ];
      }) (import ../example { }).modules
    )
    ++ [
      {
        name = "each option has a value of a wrong type above";
        value = {
          seen = map (option: option.path) (builtins.filter (option: !(wrongTypes ? ${option.path})) options);
          want = [ ];
        };
      }
    ]
  );

  wellDone = name: cases.${name}.seen == cases.${name}.want;
  line =
    name:
    let
      inherit (cases.${name}) seen want;
    in
    if wellDone name then
      "ok ${name}"
    else
      "FAILED ${name}: saw ${builtins.toJSON seen}, wanted ${builtins.toJSON want}";
  names = builtins.attrNames cases;
in
{
  lines = map line names;
  failed = builtins.filter (name: !(wellDone name)) names;
  units = builtins.mapAttrs (_: system: system.units) systems;
  inherit (fleets) refused;
  all = {
    inherit systems;
    cases = builtins.mapAttrs (_: case: case.seen) cases;
  };
}
