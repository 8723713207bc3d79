# The few functions of Nixpkgs' `lib` that the module and its tests use, so that both can be evaluated without Nixpkgs.
#
# Options, types and priorities behave as they do upstream wherever the module relies on it; nothing else is here. Run the
# tests with MUSTER_NIXPKGS_LIB to hold this file against the real one.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    elem
    filter
    foldl'
    fromJSON
    hasAttr
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    listToAttrs
    mapAttrs
    stringLength
    substring
    tail
    ;

  dotted = concatStringsSep ".";
  concatStringsSep = builtins.concatStringsSep;
  unique = foldl' (seen: item: if elem item seen then seen else seen ++ [ item ]) [ ];
  optional = condition: item: if condition then [ item ] else [ ];
  optionalAttrs = condition: attrs: if condition then attrs else { };
  filterAttrs =
    keep: attrs: removeAttrs attrs (filter (name: !(keep name attrs.${name})) (attrNames attrs));
  mapAttrsToList = function: attrs: map (name: function name attrs.${name}) (attrNames attrs);
  genAttrs = names: function: listToAttrs (map (name: { inherit name; value = function name; }) names);
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  toInt = fromJSON;
  hasAttrByPath =
    path: attrs:
    path == [ ] || (isAttrs attrs && hasAttr (head path) attrs && hasAttrByPath (tail path) attrs.${head path});
  recursiveUpdate =
    left: right:
    if isAttrs left && isAttrs right then
      left // mapAttrs (name: value: if hasAttr name left then recursiveUpdate left.${name} value else value) right
    else
      right;

  # Properties: wrappers around a definition, taken off only where it meets its option.
  typeOf = value: if isAttrs value then value._type or null else null;
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOptionDefault = mkOverride 1500;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  defaultPriority = 100;

  # Moves properties of a set of definitions onto each of its members, without looking at conditions: the set of names must
  # be known before the configuration is.
  pushDown =
    definition:
    if typeOf definition == "if" then
      map (mapAttrs (_: mkIf definition.condition)) (pushDown definition.content)
    else if typeOf definition == "override" then
      map (mapAttrs (_: mkOverride definition.priority)) (pushDown definition.content)
    else
      [ definition ];

  # The values that a definition stands for, each with its priority.
  discharge =
    definition:
    if typeOf definition == "if" then
      if definition.condition then discharge definition.content else [ ]
    else if typeOf definition == "override" then
      map (found: found // { inherit (definition) priority; }) (discharge definition.content)
    else
      [ { priority = defaultPriority; value = definition; } ];

  strongest =
    definitions:
    let
      found = concatMap discharge definitions;
      top = foldl' (best: def: if def.priority < best then def.priority else best) 10000 found;
    in
    map (def: def.value) (filter (def: def.priority == top) found);

  mergeChecked =
    path: type: values:
    if all type.check values then
      type.merge path values
    else
      throw "A definition for option `${dotted path}' is not of type `${type.description}'.";

  mergeEqual =
    path: values:
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${dotted path}' has conflicting definition values.";

  plain = description: check: { inherit description check; merge = mergeEqual; };

  mergeNested =
    elemType: path: values:
    let
      at = name: strongest (map (value: value.${name}) (filter (hasAttr name) values));
      names = filter (name: at name != [ ]) (unique (concatMap attrNames values));
    in
    genAttrs names (name: mergeChecked (path ++ [ name ]) elemType (at name));

  types = rec {
    anything = {
      description = "anything";
      check = _: true;
      merge = path: values: if all isAttrs values then mergeNested anything path values else mergeEqual path values;
    };
    bool = plain "boolean" isBool;
    str = plain "string" isString;
    int = plain "signed integer" isInt;
    enum = allowed: plain "one of ${concatStringsSep ", " (map builtins.toJSON allowed)}" (value: elem value allowed);
    package = plain "package" (value: isAttrs value && value.type or null == "derivation");
    ints = {
      between = low: high: plain "integer between ${toString low} and ${toString high}" (
        value: isInt value && low <= value && value <= high
      );
      positive = plain "positive integer" (value: isInt value && value > 0);
      unsigned = plain "unsigned integer" (value: isInt value && value >= 0);
    };
    port = ints.between 0 65535;
    nullOr = type: {
      description = "null or ${type.description}";
      check = value: value == null || type.check value;
      getSubOptions = type.getSubOptions or (_: { });
      merge =
        path: values: if all (value: value != null) values then mergeChecked path type values else mergeEqual path values;
    };
    listOf = type: {
      description = "list of ${type.description}";
      check = isList;
      merge =
        path: values:
        map (value: mergeChecked path type [ value ]) (
          concatMap (item: strongest [ item ]) (concatLists values)
        );
    };
    attrsOf = type: {
      description = "attribute set of ${type.description}";
      check = isAttrs;
      getSubOptions = type.getSubOptions or (_: { });
      merge = mergeNested type;
    };
    submodule = module: {
      description = "submodule";
      check = isAttrs;
      getSubOptions = path: (evalAt path [ module ] { }).options;
      merge = path: values: (evalAt path ([ module ] ++ map (config: { inherit config; }) values) { }).config;
    };
  };

  mkOption = attrs: attrs // { _type = "option"; };

  # The tree of options under `path`, each merged from the definitions that reach it.
  evalOptions =
    path: options: definitions:
    let
      sets = concatMap pushDown definitions;
      unknown = filter (name: !(hasAttr name options)) (unique (concatMap attrNames sets));
      evalOption =
        name: option:
        let
          here = path ++ [ name ];
          given = map (set: set.${name}) (filter (hasAttr name) sets);
          values = strongest (given ++ optional (option ? default) (mkOptionDefault option.default));
        in
        if typeOf option != "option" then
          evalOptions here option given
        else if values == [ ] then
          throw "The option `${dotted here}' is used but not defined."
        else
          mergeChecked here option.type values;
    in
    if unknown != [ ] then
      throw "The option `${dotted (path ++ [ (head unknown) ])}' does not exist."
    else
      mapAttrs evalOption options;

  # A module and all that it imports, each as { options, config }.
  collect =
    args: module:
    let
      loaded = if isPath module || isString module then import module else module;
      value = if isFunction loaded then loaded args else loaded;
      structured = value ? options || value ? config;
    in
    concatMap (collect args) (value.imports or [ ])
    ++ [
      {
        options = value.options or { };
        config = if structured then value.config or { } else removeAttrs value [ "imports" "key" ];
      }
    ];

  evalAt =
    path: modules: specialArgs:
    let
      args = specialArgs // { inherit config lib; };
      parts = concatMap (collect args) modules;
      options = foldl' recursiveUpdate { } (map (part: part.options) parts);
      config = evalOptions path options (map (part: part.config) parts);
    in
    { inherit config options; };

  lib = {
    inherit
      concatMap
      concatStringsSep
      filterAttrs
      genAttrs
      hasAttrByPath
      hasPrefix
      mapAttrsToList
      mkDefault
      mkForce
      mkIf
      mkOption
      optional
      optionalAttrs
      recursiveUpdate
      toInt
      types
      unique
      ;
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    evalModules = { modules, specialArgs ? { } }: evalAt [ ] modules specialArgs;
  };
in
lib
