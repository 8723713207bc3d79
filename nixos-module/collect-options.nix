# Every option below a set of options, also those of sets within sets, as [ { path, option } ].
{ lib }:

let
  collect =
    path: node:
    if node._type or null == "option" then
      let
        # The module has no sets of options but by name.
        inside = (node.type.getSubOptions or (_: { })) path;
      in
      [
        {
          path = lib.concatStringsSep "." path;
          option = node;
        }
      ]
      ++ below (path ++ [ "<name>" ]) inside
    else
      below path node;
  below =
    path: options:
    lib.concatMap (name: collect (path ++ [ name ]) options.${name}) (
      builtins.filter (name: name != "_module") (builtins.attrNames options)
    );
in
collect [ ]
