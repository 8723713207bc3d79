# What mkFleet must make of a fleet: errors by name, and what comes out of a fleet without any.
let
  mkFleet = import ../fleet.nix;

  # Keys whose private halves nobody has kept.
  key = {
    a = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAvFljHpWA1llxueWudUYDz0v37vy86sSUhTbSiCv7jR";
    b = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILXR/zUVzaJBdBg1QB0PLWmY4cxdy1uBmiUcjhH5fKoK";
    c = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE21PJAXxT+h2fv7UaxbqDHpv6v0ogjOqjEz83bGbAE2";
    d = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPI3hO61D2l8mDuIC7CugXFlR4LOlQIPFT7YAEdhaEXH";
    e = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIw5PbyqYeIBNhYMRu9ay7tPab2dneTfYKEzHpLqGEjE";
    f = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAe3sNt1lcQKwuTwuy5r3hcFqAig0BmuOeGiqggeFt8T";
  };

  one = {
    fleet = "home";
    serial = 1;
    signedAt = "2026-11-24T10:00:00Z";
    operators.alice = key.a;
    thresholds = {
      fleet = 1;
      channelRef = 1;
      command = 1;
    };
    hosts = {
      canary = {
        key = key.b;
        channel = "stable";
        tags = [ "early" ];
        addresses = [ "/dns4/canary/udp/7946/quic-v1" ];
      };
      web = {
        key = key.c;
        channel = "stable";
        tags = [
          "web"
          "public"
        ];
        addresses = [ "/dns4/web/tcp/7946/p2p/12D3KooWALVUnLpmPEeqrkrqRmm5nbjZ2QrJspKhtUPVHENecwZL" ];
      };
      db = {
        key = key.d;
        channel = "slow";
      };
    };
    channels = {
      stable = {
        rolloutPolicy = "careful";
        freshnessWindowMinutes = 60;
      };
      slow = {
        rolloutPolicy = "careful";
        freshnessWindowMinutes = 60;
      };
    };
    rolloutPolicies.careful.waves = [
      {
        selector.tags = [ "early" ];
        soakMinutes = 1;
      }
      {
        selector.all = true;
        soakSeconds = 0;
      }
    ];
  };

  change =
    base: changes:
    builtins.mapAttrs (
      name: value:
      if builtins.isAttrs value && builtins.isAttrs (base.${name} or null) then change base.${name} value else value
    ) changes
    // removeAttrs base (builtins.attrNames changes);

  policy = waves: { rolloutPolicies.careful.waves = waves; };
  wave = {
    selector.all = true;
    soakMinutes = 1;
  };
  named = names: { hosts = names; };
  check = {
    kind = "peers";
    min = 1;
  };

  # `changes` to the fleet above, the sentences that mkFleet has to say, and whether `muster fleet check` refuses it too.
  broken = {
    "a missing key is named" = {
      fleet = removeAttrs one [ "signedAt" ];
      says = [ "signedAt is missing." ];
    };
    "an unknown key is named, with those that there are" = {
      changes.hosts.web.tgas = [ ];
      says = [ "hosts.web has no key tgas; it may have addresses, channel, healthChecks, key, system, tags." ];
    };
    "a limit with a typo is no limit" = {
      changes.disruptionBudgets = [
        {
          selector.all = true;
          maxInFlihgt = 1;
        }
      ];
      says = [
        "disruptionBudgets.1 has no key maxInFlihgt; it may have maxInFlight, maxInFlightPct, selector."
        "disruptionBudgets.1 needs maxInFlight or maxInFlightPct."
      ];
    };
    "the kind is not the operator's to say" = {
      changes.kind = "muster/command/1";
      says = [
        "The fleet has no key kind; it may have channelEdges, channels, coordinators, disruptionBudgets, edges, expiresAt, fleet, healthChecks, hosts, operators, recovery, replaces, rolloutPolicies, serial, signedAt, tags, thresholds."
      ];
      onlyHere = true;
    };
    "a fleet's name has a form" = {
      changes.fleet = "Home";
      says = [ "fleet is \"Home\", and has to be a lower-case letter and at most 62 lower-case letters, digits and hyphens." ];
    };
    "a host's name has a form" = {
      changes.hosts."web.example.org" = {
        key = key.e;
        channel = "stable";
      };
      says = [
        "hosts has the name \"web.example.org\", but a name here is 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end."
      ];
    };
    "a time has a form" = {
      changes.signedAt = "yesterday";
      says = [ "signedAt is \"yesterday\", and has to be a time such as 2026-11-24T10:00:00Z." ];
    };
    "a serial is a number" = {
      changes.serial = "1";
      says = [ "serial is \"1\", and has to be a whole number of at least 0." ];
    };
    "a host's key is of one type" = {
      changes.hosts.web.key = "ssh-rsa AAAA";
      says = [ "hosts.web.key is \"ssh-rsa AAAA\", and has to be an OpenSSH public key line of type ssh-ed25519." ];
    };
    "an operator's key is of one of two types" = {
      changes.operators.alice = "ecdsa-sha2-nistp256 AAAA";
      says = [
        "operators.alice is \"ecdsa-sha2-nistp256 AAAA\", and has to be an OpenSSH public key line of type ssh-ed25519 or sk-ssh-ed25519@openssh.com."
      ];
    };
    "an address begins with a slash" = {
      changes.hosts.web.addresses = [ "web.example.org" ];
      says = [ "hosts.web.addresses.1 is \"web.example.org\", and has to be a multiaddress of at most 512 bytes." ];
      onlyHere = true;
    };
    "a host has so many addresses and no more" = {
      changes.hosts.web.addresses = builtins.genList (_: "/dns4/a/tcp/1") 17;
      says = [ "hosts.web.addresses lists 17 addresses, and may list 16." ];
    };
    "a wave soaks for one time" = {
      changes = policy [
        (wave // { soakSeconds = 60; })
        { selector.all = true; }
      ];
      says = [
        "rolloutPolicies.careful.waves.1 needs either soakMinutes or soakSeconds."
        "rolloutPolicies.careful.waves.2 needs either soakMinutes or soakSeconds."
      ];
    };
    "a policy has a wave" = {
      changes = policy [ ];
      says = [ "rolloutPolicies.careful.waves is empty, and has to list at least one." ];
    };
    "a reaction is one of two" = {
      changes.rolloutPolicies.careful.onHealthFailure = "panic";
      says = [ "rolloutPolicies.careful.onHealthFailure is \"panic\", and has to be one of rollback-and-halt, halt." ];
    };
    "a timeout of nothing is refused" = {
      changes.rolloutPolicies.careful.dispatchTimeoutSeconds = 0;
      says = [ "rolloutPolicies.careful.dispatchTimeoutSeconds is 0, and has to be a whole number from 1 to 316224000." ];
    };
    "a window has days of a week and times of a day" = {
      changes.channels.stable.windows = [
        {
          days = [ "fridays" ];
          start = "24:00";
          lengthMinutes = 0;
        }
        {
          days = [ ];
          start = "22:00";
          lengthMinutes = 1;
        }
      ];
      says = [
        "channels.stable.windows.1.days.1 is \"fridays\", and has to be one of mon, tue, wed, thu, fri, sat, sun."
        "channels.stable.windows.1.lengthMinutes is 0, and has to be a whole number from 1 to 10080."
        "channels.stable.windows.1.start is \"24:00\", and has to be a time of day such as 22:00."
        "channels.stable.windows.2.days is empty, and has to list at least one."
      ];
    };
    "a selector has one key" = {
      changes = policy [
        (
          wave
          // {
            selector = {
              all = true;
              tags = [ "web" ];
            };
          }
        )
      ];
      says = [
        "rolloutPolicies.careful.waves.1.selector has the keys [\"all\",\"tags\"], but a selector has exactly one of all, and, channel, hosts, not, tags, tagsAny."
      ];
    };
    "a selector lists at least one" = {
      changes = policy [ (wave // { selector.not.tagsAny = [ ]; }) ];
      says = [ "rolloutPolicies.careful.waves.1.selector.not.tagsAny is empty, and has to list at least one." ];
    };
    "all is all" = {
      changes = policy [ (wave // { selector.all = false; }) ];
      says = [ "rolloutPolicies.careful.waves.1.selector.all is false, and has to be true." ];
    };
    "a health check has a kind" = {
      changes.healthChecks.site.kind = "icmp";
      says = [ "healthChecks.site.kind is \"icmp\", and has to be one of evidence, exec, http, peers, systemd, tcp." ];
      onlyHere = true;
    };
    "a health check has the keys of its kind" = {
      changes.tags.web.healthChecks.site = {
        kind = "tcp";
        host = "a";
        url = "http://a/";
      };
      says = [
        "tags.web.healthChecks.site.port is missing, which every check of kind tcp has."
        "tags.web.healthChecks.site has the key url, which no check of kind tcp has."
      ];
      onlyHere = true;
    };

    "a fleet has an operator" = {
      fleet = one // {
        operators = { };
      };
      says = [ "A fleet has at least one operator." ];
    };
    "a fleet has a host" = {
      fleet = one // {
        hosts = { };
      };
      says = [
        "A fleet has at least one host."
        "rolloutPolicies.careful.waves.1 names tag early, which no host has and tags does not declare."
      ];
    };
    "nobody can meet a threshold above the number of operators" = {
      changes.thresholds = {
        fleet = 2;
        command = 3;
      };
      says = [
        "thresholds.fleet is 2, and has to be 1 to 1, the number of operators."
        "thresholds.command is 3, and has to be 1 to 1, the number of operators."
      ];
    };
    "anybody meets a threshold of none" = {
      changes.thresholds.channelRef = 0;
      says = [ "thresholds.channelRef is 0, and has to be a whole number of at least 1." ];
    };
    "one key under two names is one operator" = {
      changes.operators.bob = "${key.a} another comment";
      says = [ "The operators alice and bob have one key." ];
    };
    "one key under two names is one host" = {
      changes.hosts.web.key = key.b;
      says = [ "The hosts canary and web have one key." ];
    };
    "a host's channel has to be there" = {
      changes.hosts.web.channel = "stabel";
      says = [ "hosts.web names channel stabel, which is not declared." ];
    };
    "a channel's policy has to be there" = {
      changes.channels.stable.rolloutPolicy = "carefull";
      says = [ "channels.stable has the rollout policy carefull, which is not declared." ];
    };
    "a tag in a selector has to be there" = {
      changes.disruptionBudgets = [
        {
          selector.and = [
            { tagsAny = [ "webb" ]; }
            { not.tags = [ "publik" ]; }
          ];
          maxInFlight = 1;
        }
      ];
      says = [
        "disruptionBudgets.1.selector names tag webb, which no host has and tags does not declare."
        "disruptionBudgets.1.selector names tag publik, which no host has and tags does not declare."
      ];
    };
    "a host and a channel in a selector have to be there" = {
      changes.edges = [
        {
          gates.hosts = [ "dbb" ];
          gated.channel = "stabel";
        }
      ];
      says = [
        "edges.1.gates names host dbb, which is not declared."
        "edges.1.gated names channel stabel, which is not declared."
      ];
    };
    "a channel of an edge has to be there" = {
      changes.channelEdges = [
        {
          gates = "slow";
          gated = "stabel";
        }
      ];
      says = [ "channelEdges.1 names channel stabel, which is not declared." ];
    };
    "somebody coordinates" = {
      changes = {
        tags.coordinator = { };
        coordinators.selector.tags = [ "coordinator" ];
      };
      says = [ "0 hosts are coordinators, and there have to be 1 to 7." ];
    };
    "a larger fleet says who coordinates" = {
      changes.hosts = builtins.listToAttrs (
        map
          (name: {
            name = "more-${name}";
            value = {
              key = key.${name};
              channel = "stable";
            };
          })
          [
            "a"
            "e"
            "f"
          ]
      );
      says = [
        "A fleet of more than 5 hosts has to say who coordinates, and this one has 6: set coordinators.selector."
      ];
    };
    "four withstand one that lies" = {
      changes.coordinators.tolerate = "lies";
      says = [ "coordinators.tolerate is \"lies\", which needs at least 4 coordinators, and there are 3." ];
    };
    "each founder is listed once" = {
      changes.coordinators.founders = [
        key.b
        "${key.b} again"
      ];
      says = [ "coordinators.founders has to list 1 to 7 keys, each once." ];
    };
    "a recovery says what it replaces" = {
      changes.recovery = true;
      says = [ "recovery and replaces come together or not at all." ];
    };
    "a recovery has no founders" = {
      changes = {
        recovery = true;
        replaces = 1;
        coordinators.founders = [ key.b ];
      };
      says = [ "A recovery starts a new log: coordinators.founders has no place in it." ];
    };
    "every host is in a wave" = {
      changes = policy [ (wave // { selector.channel = "stable"; }) ];
      says = [ "No wave of policy careful of channel slow selects hosts.db." ];
    };
    "a wave that selects nobody proves nothing" = {
      changes = {
        tags.nobody = { };
      }
      // policy [
        (wave // { selector.tags = [ "nobody" ]; })
        wave
        wave
      ];
      says = [
        "rolloutPolicies.careful.waves.1 selects no host that an earlier wave leaves, on any channel of that policy."
        "rolloutPolicies.careful.waves.3 selects no host that an earlier wave leaves, on any channel of that policy."
      ];
      onlyHere = true;
    };
    "hosts do not wait for each other" = {
      changes = {
        edges = [
          {
            gates = named [ "canary" ];
            gated = named [ "web" ];
          }
          {
            gates.tags = [ "web" ];
            gated = named [ "db" ];
          }
          {
            gates = named [ "db" ];
            gated.tags = [ "early" ];
          }
        ];
      };
      says = [ "edges form a cycle: canary before web before db before canary." ];
    };
    "a host does not wait for itself" = {
      changes.edges = [
        {
          gates.all = true;
          gated = named [ "db" ];
        }
      ];
      says = [ "edges form a cycle: db before db." ];
    };
    "channels do not wait for each other" = {
      changes.channelEdges = [
        {
          gates = "slow";
          gated = "stable";
        }
        {
          gates = "stable";
          gated = "slow";
        }
      ];
      says = [ "channelEdges form a cycle: slow before stable before slow." ];
    };
    "a gated host is not in an earlier wave than its gate" = {
      changes.edges = [
        {
          gates = named [ "web" ];
          gated = named [ "canary" ];
        }
      ];
      says = [
        "edges.1 makes canary of wave 1 wait for web of wave 2, and a gated host cannot be in an earlier wave than its gate."
      ];
    };
    "two tags that disagree about a check are refused" = {
      changes.tags = {
        web.healthChecks.site = check;
        public.healthChecks.site = check // {
          min = 2;
        };
      };
      says = [
        "The health check site of hosts.web is declared otherwise by tag public and tag web: declare it for the host or its channel."
      ];
      onlyHere = true;
    };
  };
  fleetOf = case: case.fleet or (change one case.changes);

  system = name: { config.system.build.toplevel.outPath = "/nix/store/00000000000000000000000000000000-${name}"; };
  checked = mkFleet (
    change one {
      healthChecks = {
        a = check;
        b = check;
        c = check;
        d = check;
      };
      tags = {
        web.healthChecks = {
          b = check // {
            min = 2;
          };
          e = check;
        };
        public.healthChecks.e = check;
      };
      channels.stable.healthChecks.c = check // {
        min = 3;
      };
      hosts.web.healthChecks = {
        d = check // {
          mode = "disabled";
        };
        e = check // {
          min = 5;
        };
      };
      nixosConfigurations = {
        canary = system "canary";
        db = system "db";
        laptop = system "laptop";
      };
    }
  );

  whole = {
    "a valid fleet has no errors" = {
      seen = (mkFleet one).errors;
      want = [ ];
    };
    "a fleet that is not valid gives nothing else" = {
      seen = map (attribute: (builtins.tryEval (builtins.deepSeq attribute attribute)).success) (
        builtins.attrValues (removeAttrs (mkFleet (one // { serial = "1"; })) [ "errors" ])
      );
      want = builtins.genList (_: false) 5;
    };
    "the document says what was said, and what kind it is" = {
      seen = (mkFleet one).document;
      want = one // {
        kind = "muster/fleet/1";
      };
    };
    "health checks and configurations are no part of the document" = {
      seen = checked.document;
      want = one // {
        kind = "muster/fleet/1";
        tags = {
          web = { };
          public = { };
        };
      };
    };
    "targets are by channel, for the hosts that have a configuration" = {
      seen = checked.targets;
      want = {
        stable.canary = "/nix/store/00000000000000000000000000000000-canary";
        slow.db = "/nix/store/00000000000000000000000000000000-db";
      };
    };
    "the narrowest health check counts: host, channel, tag, fleet" = {
      seen = checked.healthChecks.web;
      want = {
        a = check;
        b = check // {
          min = 2;
        };
        c = check // {
          min = 3;
        };
        d = check // {
          mode = "disabled";
        };
        e = check // {
          min = 5;
        };
      };
    };
    "whatever is shadowed, and whatever has no counterpart, is warned of" = {
      seen = checked.warnings;
      want = [
        "The health check c of hosts.canary is the one of channel stable, which shadows the one of the fleet."
        "The health check b of hosts.web is the one of tag web, which shadows the one of the fleet."
        "The health check c of hosts.web is the one of channel stable, which shadows the one of the fleet."
        "The health check d of hosts.web is the one of the host, which shadows the one of the fleet."
        "The health check e of hosts.web is the one of the host, which shadows the one of tag public and tag web."
        "hosts.web has no nixosConfigurations.web, and gets no target."
        "nixosConfigurations.laptop is no host of the fleet."
      ];
    };
    "a host's module says all that the fleet knows of it" = {
      seen = checked.modules.db.services.muster;
      want = {
        enable = true;
        fleet = "home";
        host = "db";
        operators.alice = key.a;
        threshold = 1;
        # The peer ids are what `muster id` prints for these keys.
        bootstrap = [
          "/dns4/canary/udp/7946/quic-v1/p2p/12D3KooWN47gegS32vLWhkYAkpwP2KG2Bibkmd4NLws8rbYzLoHB"
          "/dns4/web/tcp/7946/p2p/12D3KooWALVUnLpmPEeqrkrqRmm5nbjZ2QrJspKhtUPVHENecwZL"
        ];
        healthChecks = {
          a = check;
          b = check;
          c = check;
          d = check;
        };
      };
    };
  };
in
{
  cases =
    whole
    // builtins.mapAttrs (_: case: {
      seen = (mkFleet (fleetOf case)).errors;
      want = case.says;
    }) broken;

  # Documents that `muster fleet check` has to refuse as mkFleet does.
  refused = builtins.mapAttrs (_: case: { kind = "muster/fleet/1"; } // fleetOf case) (
    removeAttrs broken (builtins.filter (name: broken.${name}.onlyHere or false) (builtins.attrNames broken))
  );
}
