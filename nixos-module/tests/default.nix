# Runs every case. `lines` tells how each went, `failed` names those that did not go well, `units` are unit files to check.
{ lib ? import ./stand-in-lib.nix }:

let
  inherit (import ./evaluate.nix { inherit lib; }) view;
  cases = import ./cases.nix;
  render = import ./render-unit.nix { inherit lib; };

  run =
    name:
    let
      case = cases.${name};
      evaluate =
        given:
        let
          seen = case.see (view given);
        in
        builtins.tryEval (builtins.deepSeq seen seen);
      outcome = evaluate case.given;
    in
    if case ? refusedBeside then
      if outcome.success then
        "it was accepted"
      else if !(evaluate case.refusedBeside).success then
        "what should be accepted was refused too"
      else
        null
    else if !outcome.success then
      "its evaluation failed"
    else if outcome.value != case.want then
      "saw ${builtins.toJSON outcome.value}, wanted ${builtins.toJSON case.want}"
    else
      null;

  results = builtins.mapAttrs (name: _: run name) cases;
  names = builtins.attrNames cases;
  unitOf = activation: render (view { services.muster = { inherit activation; }; }).unit;
in
{
  lines = map (name: if results.${name} == null then "ok ${name}" else "FAILED ${name}: ${results.${name}}") names;
  failed = builtins.filter (name: results.${name} != null) names;
  units = {
    nixos = unitOf { backend = "nixos"; };
    directory = unitOf { backend = "directory"; root = "/srv"; };
  };
}
