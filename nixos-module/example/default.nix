# A fleet of three, complete: a canary, a database that goes before the web server, and what each has to pass.
#
#   nix-instantiate --eval --strict --json nixos-module/example -A document | muster fleet check -
{
  mkFleet ? import ../fleet.nix,
  # What the hosts are to run; without it there are no targets.
  nixosConfigurations ? null,
}:

mkFleet (
  {
    fleet = "home";
    # Grows with every document that is signed.
    serial = 1;
    signedAt = "2026-11-24T10:00:00Z";

    operators = {
      alice = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAvFljHpWA1llxueWudUYDz0v37vy86sSUhTbSiCv7jR alice";
      bob = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILXR/zUVzaJBdBg1QB0PLWmY4cxdy1uBmiUcjhH5fKoK bob";
      ci = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE21PJAXxT+h2fv7UaxbqDHpv6v0ogjOqjEz83bGbAE2 ci";
    };
    thresholds = {
      # Two people change the fleet, and one, or what builds, releases to it.
      fleet = 2;
      channelRef = 1;
      command = 1;
    };

    coordinators.selector.all = true;

    hosts = {
      edge-01 = {
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPI3hO61D2l8mDuIC7CugXFlR4LOlQIPFT7YAEdhaEXH";
        system = "x86_64-linux";
        channel = "stable";
        tags = [
          "canary"
          "web"
        ];
        addresses = [ "/dns4/edge-01.example.org/udp/7946/quic-v1" ];
      };
      web-01 = {
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIw5PbyqYeIBNhYMRu9ay7tPab2dneTfYKEzHpLqGEjE";
        system = "x86_64-linux";
        channel = "stable";
        tags = [ "web" ];
        addresses = [ "/dns4/web-01.example.org/udp/7946/quic-v1" ];
        # What the tag declares, and a little more patience.
        healthChecks.site = {
          kind = "http";
          url = "http://127.0.0.1/health";
          timeoutSeconds = 30;
        };
      };
      db-01 = {
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAe3sNt1lcQKwuTwuy5r3hcFqAig0BmuOeGiqggeFt8T";
        system = "x86_64-linux";
        channel = "stable";
        tags = [ "database" ];
        addresses = [ "/dns4/db-01.example.org/udp/7946/quic-v1" ];
      };
    };

    tags = {
      canary.description = "gets every release first";
      web = {
        description = "serves the site";
        healthChecks.site = {
          kind = "http";
          url = "http://127.0.0.1/health";
        };
      };
      database.healthChecks.database = {
        kind = "tcp";
        host = "127.0.0.1";
        port = 5432;
      };
    };

    # Every host: nothing of the system has failed, and a release that cuts a host off goes back by itself.
    healthChecks = {
      system = {
        kind = "systemd";
        maxFailedUnits = 0;
      };
      reachable = {
        kind = "peers";
        min = 1;
      };
    };

    channels.stable = {
      description = "what everybody uses";
      rolloutPolicy = "careful";
      freshnessWindowMinutes = 24 * 60;
      windows = [
        {
          days = [
            "mon"
            "tue"
            "wed"
            "thu"
          ];
          start = "08:00";
          lengthMinutes = 8 * 60;
          timezone = "Europe/Berlin";
        }
      ];
    };

    rolloutPolicies.careful = {
      waves = [
        {
          selector.tags = [ "canary" ];
          soakMinutes = 30;
        }
        {
          selector.all = true;
          soakMinutes = 5;
        }
      ];
      healthGate.maxFailures = 0;
      onHealthFailure = "rollback-and-halt";
    };

    edges = [
      {
        gates.tags = [ "database" ];
        gated.hosts = [ "web-01" ];
        reason = "the schema moves first";
      }
    ];

    disruptionBudgets = [
      {
        selector.tags = [ "web" ];
        maxInFlight = 1;
      }
      {
        selector.all = true;
        maxInFlightPct = 50;
      }
    ];
  }
  // (if nixosConfigurations == null then { } else { inherit nixosConfigurations; })
)
