# The words of a fleet: which keys each of its parts has, and what their values look like. A form is a function of the place
# of a value and the value, and gives the sentences that say what is wrong with it.
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    genList
    hasAttr
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    match
    stringLength
    toJSON
    ;

  keys = import ./keys.nix;
  checkKinds = import ../check-kinds.nix;

  # Ten years: no limit of a policy is longer.
  secondsMax = 10 * 366 * 24 * 3600;
  weekMinutes = 7 * 24 * 60;

  show =
    value:
    if isFunction value then
      "a function"
    else if isAttrs value then
      "a set"
    else if isList value then
      "a list"
    else if isPath value then
      "a path"
    else
      toJSON value;

  below = path: name: if path == "" then name else "${path}.${name}";

  such =
    wanted: accepts: path: value:
    if accepts value then [ ] else [ "${path} is ${show value}, and has to be ${wanted}." ];

  text = such "a text" isString;
  flag = such "true or false" isBool;
  matching = pattern: wanted: such wanted (value: isString value && match pattern value != null);
  oneOf = allowed: such "one of ${concatStringsSep ", " allowed}" (value: elem value allowed);
  whole =
    low: high:
    such "a whole number from ${toString low} to ${toString high}" (value: isInt value && low <= value && value <= high);
  atLeast = low: such "a whole number of at least ${toString low}" (value: isInt value && low <= value);

  # A name of each kind: its pattern, and the pattern in words.
  dashed = {
    pattern = "[a-z][a-z0-9-]{0,62}";
    wanted = "a lower-case letter and at most 62 lower-case letters, digits and hyphens";
  };
  hostName = {
    pattern = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
    wanted = "1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end";
  };
  operatorName = {
    pattern = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}";
    wanted = "a letter or digit and at most 127 letters, digits, dots, underscores and hyphens";
  };
  named = kind: matching kind.pattern kind.wanted;

  time = matching "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})" "a time such as 2026-11-24T10:00:00Z";

  listOf =
    form: path: value:
    if isList value then
      concatLists (genList (at: form "${path}.${toString (at + 1)}" (elemAt value at)) (length value))
    else
      [ "${path} is ${show value}, and has to be a list." ];

  filledListOf =
    form: path: value:
    if value == [ ] then [ "${path} is empty, and has to list at least one." ] else listOf form path value;

  setOf =
    kind: form: path: value:
    if isAttrs value then
      concatMap (
        name:
        (if match kind.pattern name == null then [ "${path} has the name ${toJSON name}, but a name here is ${kind.wanted}." ] else [ ])
        ++ form "${path}.${name}" value.${name}
      ) (attrNames value)
    else
      [ "${path} is ${show value}, and has to be a set." ];

  object =
    required: optional: path: value:
    let
      forms = required // optional;
      place = if path == "" then "The fleet" else path;
      ofKey =
        key:
        if hasAttr key forms then
          forms.${key} (below path key) value.${key}
        else
          [ "${place} has no key ${key}; it may have ${concatStringsSep ", " (attrNames forms)}." ];
      missing = filter (key: !(hasAttr key value)) (attrNames required);
    in
    if isAttrs value then
      map (key: "${below path key} is missing.") missing ++ concatMap ofKey (attrNames value)
    else
      [ "${place} is ${show value}, and has to be a set." ];

  selectorForms = {
    tags = filledListOf (named dashed);
    tagsAny = filledListOf (named dashed);
    hosts = filledListOf (named hostName);
    channel = named dashed;
    all = such "true" (value: value == true);
    not = selector;
    and = filledListOf selector;
  };
  selector =
    path: value:
    let
      key = builtins.head (attrNames value);
    in
    if !(isAttrs value) then
      [ "${path} is ${show value}, and has to be a selector." ]
    else if length (attrNames value) != 1 || !(hasAttr key selectorForms) then
      [ "${path} has the keys ${toJSON (attrNames value)}, but a selector has exactly one of ${concatStringsSep ", " (attrNames selectorForms)}." ]
    else
      selectorForms.${key} "${path}.${key}" value.${key};

  # The module checks the types of the values once more, where a host takes its checks.
  healthCheck =
    path: value:
    let
      kind = value.kind or null;
      common = [
        "kind"
        "mode"
        "intervalSeconds"
        "timeoutSeconds"
      ];
      inherit (checkKinds.${kind}) required optional;
      foreign = filter (key: !(elem key (common ++ required ++ optional))) (attrNames value);
      missing = filter (key: !(hasAttr key value)) required;
    in
    if !(isAttrs value) then
      [ "${path} is ${show value}, and has to be a set." ]
    else if !(isString kind && hasAttr kind checkKinds) then
      [ "${path}.kind is ${show kind}, and has to be one of ${concatStringsSep ", " (attrNames checkKinds)}." ]
    else
      map (key: "${path}.${key} is missing, which every check of kind ${kind} has.") missing
      ++ map (key: "${path} has the key ${key}, which no check of kind ${kind} has.") foreign;
  healthChecks = setOf dashed healthCheck;

  host =
    object
      {
        key = such "an OpenSSH public key line of type ssh-ed25519" keys.isHostKey;
        channel = named dashed;
      }
      {
        inherit healthChecks;
        system = text;
        tags = listOf (named dashed);
        addresses =
          path: value:
          listOf (such "a multiaddress of at most 512 bytes" (
            value: isString value && match "/.+" value != null && stringLength value <= 512
          )) path value
          ++ (
            if isList value && length value > 16 then
              [ "${path} lists ${toString (length value)} addresses, and may list 16." ]
            else
              [ ]
          );
      };

  window =
    object
      {
        days = filledListOf (oneOf [
          "mon"
          "tue"
          "wed"
          "thu"
          "fri"
          "sat"
          "sun"
        ]);
        start = matching "([01][0-9]|2[0-3]):[0-5][0-9]" "a time of day such as 22:00";
        lengthMinutes = whole 1 weekMinutes;
      }
      {
        timezone = text;
      };

  channel =
    object
      {
        rolloutPolicy = named dashed;
        freshnessWindowMinutes = whole 1 (secondsMax / 60);
      }
      {
        inherit healthChecks;
        windows = listOf window;
        description = text;
      };

  wave =
    path: value:
    object { inherit selector; } {
      soakMinutes = whole 0 (secondsMax / 60);
      soakSeconds = whole 0 secondsMax;
      promotion = oneOf [
        "auto"
        "manual"
      ];
    } path value
    ++ (
      if isAttrs value && (value ? soakMinutes) == (value ? soakSeconds) then
        [ "${path} needs either soakMinutes or soakSeconds." ]
      else
        [ ]
    );

  seconds = whole 1 secondsMax;
  policy = object { waves = filledListOf wave; } {
    healthGate = object { } { maxFailures = atLeast 0; };
    onHealthFailure = oneOf [
      "rollback-and-halt"
      "halt"
    ];
    sustainedFailureSeconds = seconds;
    dispatchTimeoutSeconds = seconds;
    activationTimeoutSeconds = seconds;
    deferredTimeoutHours = whole 1 (secondsMax / 3600);
    lostAfterSeconds = seconds;
    fetchTimeoutSeconds = seconds;
    deferred = oneOf [
      "hold"
      "advance"
    ];
  };

  budget =
    path: value:
    object { inherit selector; } {
      maxInFlight = atLeast 1;
      maxInFlightPct = whole 1 100;
    } path value
    ++ (
      if isAttrs value && !(value ? maxInFlight || value ? maxInFlightPct) then
        [ "${path} needs maxInFlight or maxInFlightPct." ]
      else
        [ ]
    );

  edge =
    ends:
    object {
      gates = ends;
      gated = ends;
    } { reason = text; };

  threshold = atLeast 1;
in
object
  {
    fleet = named dashed;
    serial = atLeast 0;
    signedAt = time;
    operators = setOf operatorName (
      such "an OpenSSH public key line of type ssh-ed25519 or sk-ssh-ed25519@openssh.com" keys.isOperatorKey
    );
    thresholds = object {
      fleet = threshold;
      channelRef = threshold;
      command = threshold;
    } { };
    hosts = setOf hostName host;
    channels = setOf dashed channel;
    rolloutPolicies = setOf dashed policy;
  }
  {
    inherit healthChecks;
    expiresAt = time;
    coordinators = object { } {
      inherit selector;
      tolerate = oneOf [
        "crash"
        "lies"
      ];
      founders = filledListOf (such "an OpenSSH public key line of type ssh-ed25519" keys.isHostKey);
    };
    tags = setOf dashed (object { } {
      inherit healthChecks;
      description = text;
    });
    edges = listOf (edge selector);
    channelEdges = listOf (edge (named dashed));
    disruptionBudgets = listOf budget;
    recovery = flag;
    replaces = atLeast 0;
  }
  ""
