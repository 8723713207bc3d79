# The kinds of health checks: the keys that each must have, and those that it may have. The agent refuses a whole file for any
# other key.
{
  http = {
    required = [ "url" ];
    optional = [
      "caFile"
      "expectStatus"
      "bodyContains"
    ];
  };
  tcp = {
    required = [
      "host"
      "port"
    ];
    optional = [ ];
  };
  exec = {
    required = [ "command" ];
    optional = [ "expectExitCode" ];
  };
  systemd = {
    required = [ ];
    optional = [
      "units"
      "maxFailedUnits"
    ];
  };
  peers = {
    required = [ "min" ];
    optional = [ ];
  };
  evidence = {
    required = [
      "framework"
      "evidencePath"
    ];
    optional = [ "controlOverrides" ];
  };
}
