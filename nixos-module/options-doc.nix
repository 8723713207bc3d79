# The options of `services.muster` as Markdown, for README.md; document.sh puts it there.
let
  lib = import ./tests/stand-in-lib.nix;
  inherit (builtins)
    attrNames
    isAttrs
    isBool
    isList
    isString
    match
    replaceStrings
    toJSON
    ;
  inherit (import ./tests/evaluate.nix { inherit lib; }) options;

  nameOf = name: if match "[A-Za-z_][A-Za-z0-9_-]*" name == null then toJSON name else name;

  # A value as a person writes it.
  nix =
    value:
    if isAttrs value && value._type or null == "literalExpression" then
      value.text
    else if isList value then
      if value == [ ] then "[ ]" else "[ ${lib.concatStringsSep " " (map nix value)} ]"
    else if isAttrs value then
      if value == { } then
        "{ }"
      else
        "{ ${lib.concatStringsSep " " (map (name: "${nameOf name} = ${nix value.${name}};") (attrNames value))} }"
    else if isString value || isBool value || builtins.isInt value || value == null then
      toJSON value
    else
      throw "no form for a value of the type ${builtins.typeOf value}";

  trimmed = text: builtins.head (match "(.*[^\n])\n*" text);
  oneLine = text: match "[^\n]*" text != null;
  indented = text: replaceStrings [ "\n" ] [ "\n  " ] (trimmed text);

  fact = name: text: if oneLine text then "${name} `${text}`" else "${name}\n\n  ```nix\n  ${indented text}\n  ```";
  default =
    option:
    if option ? defaultText then
      fact "default" (nix option.defaultText)
    else if option ? default then
      fact "default" (nix option.default)
    else
      "must be set";
  facts =
    option:
    [
      (replaceStrings [ "submodule" ] [ "sets" ] option.type.description)
      (default option)
    ]
    ++ lib.optional (option ? example) (fact "for example" (trimmed (nix option.example)));

  entry =
    { path, option }: "- **`${path}`**: ${lib.concatStringsSep ", " (facts option)}\n\n  ${indented option.description}\n";
in
lib.concatStringsSep "\n" (map entry options)
