# Each option, in the spelling of its path: a value that its type refuses, and one that it takes.
let
  values = bad: good: { inherit bad good; };
  # A key of a health check, beside what its kind needs.
  ofCheck = check: key: bad: good: {
    bad.site = check // { ${key} = bad; };
    good.site = check // { ${key} = good; };
  };
  http = ofCheck {
    kind = "http";
    url = "http://a/";
  };
  tcp = ofCheck {
    kind = "tcp";
    host = "a";
    port = 1;
  };
  exec = ofCheck {
    kind = "exec";
    command = [ "true" ];
  };
  systemd = ofCheck {
    kind = "systemd";
    units = [ "a.service" ];
  };
  peers = ofCheck {
    kind = "peers";
    min = 1;
  };
  evidence = ofCheck {
    kind = "evidence";
    framework = "x";
    evidencePath = "/e";
  };
  hook =
    key: bad: good:
    let
      with' = value: {
        pager = {
          events = [ "all" ];
        }
        // {
          ${key} = value;
        };
      };
    in
    {
      bad = with' bad;
      good = with' good;
    };
in
{
  "enable" = values "yes" true;
  "package" = values 1 {
    type = "derivation";
    name = "muster";
    outPath = "/nix/store/00000000000000000000000000000000-muster";
  };
  "fleet" = values 1 "home";
  "host" = values [ "web-01" ] "web-01";
  "operators" = values [ "ssh-ed25519 AAAA" ] { alice = "ssh-ed25519 AAAA"; };
  "threshold" = values 0 1;
  "bootstrap" = values "/dns4/a/tcp/1/p2p/A" [ "/dns4/a/tcp/1/p2p/A" ];
  "listen" = values "/ip4/0.0.0.0/tcp/1" [ "/ip4/0.0.0.0/tcp/1" ];
  "mdns" = values "no" false;
  "openFirewall" = values 1 true;
  "identityFile" = values 1 "/key";
  "privilegeSeparation" = values "yes" true;
  "activation.backend" = values "windows" "nixos";
  "activation.root" = values 1 null;
  "activation.defer" = values [ "shell" ] [ "kernel" ];
  "metrics.listen" = values 9746 "127.0.0.1:9746";
  "hooks" = values [ ] { };
  "hooks.<name>.events" = hook "events" [ "boom" ] [ "quarantined" ];
  "hooks.<name>.command" = hook "command" "/bin/page" [ "/bin/page" ];
  "hooks.<name>.url" = hook "url" 1 "http://a/";
  "hooks.<name>.caFile" = hook "caFile" 1 "/ca.pem";
  "hooks.<name>.timeoutSeconds" = hook "timeoutSeconds" 301 300;
  "hooks.<name>.tries" = hook "tries" 0 1;
  "group" = values 1 "wheel";
  "settings" = values "relay = auto" { relay = "auto"; };
  "healthChecks" = values [ ] { };
  "healthChecks.<name>.kind" = peers "kind" "icmp" "peers";
  "healthChecks.<name>.mode" = peers "mode" "warn" "observe";
  "healthChecks.<name>.intervalSeconds" = peers "intervalSeconds" 0 1;
  "healthChecks.<name>.timeoutSeconds" = peers "timeoutSeconds" 86401 86400;
  "healthChecks.<name>.url" = http "url" 1 "http://a/";
  "healthChecks.<name>.caFile" = http "caFile" 1 "/a";
  "healthChecks.<name>.expectStatus" = http "expectStatus" 99 100;
  "healthChecks.<name>.bodyContains" = http "bodyContains" true "ok";
  "healthChecks.<name>.host" = tcp "host" 1 "a";
  "healthChecks.<name>.port" = tcp "port" 65536 65535;
  "healthChecks.<name>.command" = exec "command" "true" [ "true" ];
  "healthChecks.<name>.expectExitCode" = exec "expectExitCode" 256 255;
  "healthChecks.<name>.units" = systemd "units" "a.service" [ "a.service" ];
  "healthChecks.<name>.maxFailedUnits" = systemd "maxFailedUnits" (-1) 0;
  "healthChecks.<name>.min" = peers "min" 0 10000;
  "healthChecks.<name>.framework" = evidence "framework" 1 "x";
  "healthChecks.<name>.evidencePath" = evidence "evidencePath" 1 "/e";
  "healthChecks.<name>.controlOverrides" = evidence "controlOverrides" [ ] { };
  "healthChecks.<name>.controlOverrides.<name>.mode" =
    evidence "controlOverrides"
      {
        a.mode = "warn";
        a.reason = "x";
      }
      {
        a.mode = "observe";
        a.reason = "x";
      };
  "healthChecks.<name>.controlOverrides.<name>.reason" =
    evidence "controlOverrides" { a.mode = "disabled"; }
      {
        a.mode = "disabled";
        a.reason = "x";
      };
}
