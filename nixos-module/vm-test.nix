# A NixOS test in virtual machines: a fleet of three takes a release in waves, and goes back from one that breaks its health.
#
# `nix flake check` runs it. It needs KVM, Nixpkgs and some gigabytes.
{ pkgs, module }:

let
  inherit (pkgs) lib;
  keys = import ./vm-test-keys.nix;

  hosts = [
    "alpha"
    "beta"
    "gamma"
  ];
  # The test driver numbers the machines in the order of their names.
  addressOf =
    name:
    let
      number = {
        alpha = 1;
        beta = 2;
        gamma = 3;
      };
    in
    "/ip4/192.168.1.${toString number.${name}}/udp/7946/quic-v1";

  fleet = import ./fleet.nix {
    fleet = "test";
    serial = 1;
    signedAt = "2026-01-01T00:00:00Z";
    operators.operator = keys.operator.public;
    thresholds = {
      fleet = 1;
      channelRef = 1;
      command = 1;
    };
    hosts = lib.genAttrs hosts (name: {
      key = keys.${name}.public;
      channel = "stable";
      addresses = [ (addressOf name) ];
    });
    channels.stable = {
      rolloutPolicy = "careful";
      freshnessWindowMinutes = 60;
    };
    rolloutPolicies.careful = {
      waves = [
        {
          selector.hosts = [ "alpha" ];
          soakSeconds = 10;
        }
        {
          selector.all = true;
          soakSeconds = 5;
        }
      ];
      sustainedFailureSeconds = 5;
    };
    disruptionBudgets = [
      {
        selector.all = true;
        maxInFlight = 1;
      }
    ];
    healthChecks.site = {
      kind = "http";
      url = "http://127.0.0.1:8080/";
      intervalSeconds = 1;
    };
  };

  # What each release adds to a host: its name, where it can be seen, and whether the site is up on it.
  release = name: isUp: {
    environment.etc."release".text = lib.mkForce name;
    systemd.services.site.enable = lib.mkForce isUp;
  };

  node =
    name:
    { pkgs, ... }:
    {
      imports = [
        module
        fleet.modules.${name}
      ];
      services.muster = {
        openFirewall = true;
        identityFile = "/etc/muster-test/host_key";
      };
      environment.etc = {
        "release".text = "v1";
        "muster-test/host_key" = {
          text = keys.${name}.private;
          mode = "0400";
        };
        "muster-test/operator" = lib.mkIf (name == "alpha") {
          text = keys.operator.private;
          mode = "0400";
        };
        "muster-test/fleet.json".text = builtins.toJSON fleet.document;
      };

      systemd.services.site = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig = {
          ExecStart = "${pkgs.python3}/bin/python3 -m http.server 8080";
          WorkingDirectory = "/run/site";
          RuntimeDirectory = "site";
        };
      };

      specialisation = {
        v2.configuration = release "v2" true;
        v3.configuration = release "v3" false;
      };
      # The machines of a test are neither switched nor booted by a boot loader unless they say so.
      system.switch.enable = true;
      boot.loader.grub.enable = false;
      nix.settings.substituters = lib.mkForce [ ];
      virtualisation.memorySize = 1024;
    };
in
pkgs.testers.runNixOSTest {
  name = "muster-fleet";
  nodes = lib.genAttrs hosts node;

  testScript = ''
    import json

    hosts = [alpha, beta, gamma]
    operator = "--key /etc/muster-test/operator"


    def running(machine):
        return machine.succeed("readlink -f /run/current-system").strip()


    def publish(release, targets, serial):
        alpha.succeed(f"echo '{json.dumps(targets)}' > /root/targets.json")
        alpha.succeed(
            f"cd /root && muster sign channel-ref --channel stable --ref {release} --serial {serial}"
            f" --targets targets.json --fleet fleet.json {operator}"
        )
        alpha.succeed("cd /root && muster publish stable.json --wait")


    start_all()
    for machine in hosts:
        machine.wait_for_unit("muster.service")
        machine.wait_for_unit("muster-activate.socket")
        machine.wait_for_open_port(8080)
    systems = {
        release: {
            machine.name: machine.succeed(
                f"readlink -f /run/current-system/specialisation/{release}"
            ).strip()
            for machine in hosts
        }
        for release in ["v2", "v3"]
    }

    with subtest("the agent has no privilege, and nobody else reaches the helper"):
        for machine in hosts:
            pid = machine.succeed("systemctl show -P MainPID muster.service").strip()
            machine.succeed(f"grep -q '^CapEff:.*[^0-9a-f]0*$' /proc/{pid}/status")
            machine.fail(f"grep -q '^Uid:.*[^0-9]0[^0-9]' /proc/{pid}/status")
            machine.succeed("test $(stat -c %U:%G:%a /run/muster-activate/activate.sock) = root:muster-agent:660")

    with subtest("the fleet learns what it is"):
        alpha.succeed("cp /etc/muster-test/fleet.json /root/fleet.json")
        alpha.succeed(f"cd /root && muster sign fleet fleet.json {operator} && muster publish fleet.json")
        for machine in hosts:
            machine.wait_until_succeeds("muster status --json | grep -q '\"fleet_serial\": *1'")

    with subtest("a release reaches every host, the canary first"):
        publish("v2", systems["v2"], 1)
        alpha.succeed("muster rollout watch stable@v2")
        for machine in hosts:
            assert running(machine) == systems["v2"][machine.name]
            assert machine.succeed("cat /etc/release") == "v2"
            machine.succeed(
                f"test $(readlink -f /nix/var/nix/profiles/system) = {systems['v2'][machine.name]}"
            )

    with subtest("a release that breaks the health of the canary goes back there, and no further"):
        publish("v3", systems["v3"], 2)
        code, _ = alpha.execute("muster rollout watch stable@v3")
        assert code == 4, f"the rollout ended with {code}"
        alpha.wait_until_succeeds(f"test $(readlink -f /run/current-system) = {systems['v2']['alpha']}")
        alpha.wait_for_unit("site.service")
        for machine in hosts:
            assert running(machine) == systems["v2"][machine.name]
        alpha.succeed(f"muster quarantine list --json | grep -q {systems['v3']['alpha']}")
  '';
}
