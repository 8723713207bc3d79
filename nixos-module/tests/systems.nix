# Configurations whose units and files are rendered as a whole.
{
  # Nothing but what has no default.
  default = { };

  full = {
    fleet = "office";
    host = "db-01";
    operators = {
      alice = "ssh-ed25519 AAAAalice alice";
      token = "sk-ssh-ed25519@openssh.com AAAAtoken";
    };
    threshold = 2;
    bootstrap = [ "/dns4/web-01.example.org/udp/7946/quic-v1/p2p/12D3KooA" ];
    listen = [
      "/ip4/0.0.0.0/udp/8000/quic-v1"
      "/ip6/::/tcp/8001"
    ];
    openFirewall = true;
    identityFile = "/persist/host_key";
    activation.defer = [
      "dbus"
      "systemd"
    ];
    metrics.listen = "127.0.0.1:9746";
    hooks.pager = {
      events = [ "rollout-failed" ];
      url = "https://pager.example.org/muster";
    };
    group = "wheel";
    settings = {
      retention_days = 30;
      gossip.publish = false;
    };
    healthChecks = {
      site = {
        kind = "http";
        url = "http://127.0.0.1/health";
        expectStatus = 204;
        bodyContains = "ok";
      };
      database = {
        kind = "tcp";
        host = "127.0.0.1";
        port = 5432;
        intervalSeconds = 5;
        timeoutSeconds = 2;
      };
      queue = {
        kind = "exec";
        mode = "observe";
        command = [
          "/run/current-system/sw/bin/queue"
          "--short"
        ];
        expectExitCode = 3;
      };
      services = {
        kind = "systemd";
        units = [ "postgresql.service" ];
        maxFailedUnits = 0;
      };
      reachable = {
        kind = "peers";
        min = 2;
      };
      controls = {
        kind = "evidence";
        mode = "disabled";
        framework = "iso27001";
        evidencePath = "/var/lib/evidence.json";
        controlOverrides."A.8.9" = {
          mode = "observe";
          reason = "in work";
        };
      };
    };
  };

  # The agent itself is root.
  together.privilegeSeparation = false;

  directory.activation = {
    backend = "directory";
    root = "/srv/app";
  };
}
