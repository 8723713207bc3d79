# What the flake gives, seen with just so much of Nixpkgs as its outputs look at: every name that they use has to be here.
{ lib }:

let
  inherit (import ./evaluate.nix { inherit lib; }) package viewOf;
  manifest = builtins.fromTOML (builtins.readFile ../../Cargo.toml);
  lock = builtins.fromTOML (builtins.readFile ../../Cargo.lock);

  # What `package.nix` wants of Nixpkgs' lib. No source is copied anywhere: a fileset is the list of what it is made of.
  packageLib = {
    optionalString = condition: text: if condition then text else "";
    importTOML = file: builtins.fromTOML (builtins.readFile file);
    fileset = {
      unions = files: files;
      toSource = { root, fileset }: { inherit root fileset; };
    };
    licenses = {
      mit.spdxId = "MIT";
      asl20.spdxId = "Apache-2.0";
    };
    platforms.linux = [
      "aarch64-linux"
      "x86_64-linux"
    ];
  };

  pkgs = {
    lib = lib // packageLib;
    # A package is the arguments that it is made from.
    rustPlatform.buildRustPackage = args: package args.pname // args;
    stdenv = {
      buildPlatform.canExecute = platform: platform == "x86_64-linux";
      hostPlatform = "x86_64-linux";
    };
    installShellFiles = "installShellFiles";
    # As `callPackage` does: whatever a file asks for must be in here.
    callPackage =
      file: overrides:
      let
        build = import file;
        asked = builtins.functionArgs build;
      in
      build (builtins.intersectAttrs asked pkgs // overrides);
    mkShell = args: args;
    testers.runNixOSTest = test: test;
    cargo = "cargo";
    cargo-deny = "cargo-deny";
    clippy = "clippy";
    openssh = "openssh";
    rust-analyzer = "rust-analyzer";
    rustc = "rustc";
    rustfmt = "rustfmt";
    nixfmt-tree = "nixfmt-tree";
    python3 = "/python3";
  };
  nixpkgs = {
    inherit lib;
    outPath = "/nixpkgs";
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: pkgs);
  };
  outputs = (import ../../flake.nix).outputs {
    self = outputs;
    inherit nixpkgs;
  };

  muster = outputs.packages.x86_64-linux.default;
  sources = map toString muster.src.fileset;
  isSource = path: builtins.any (source: source == path || lib.hasPrefix "${source}/" path) sources;
  top = toString ../..;

  vm = outputs.checks.x86_64-linux.vm;
  # Options of NixOS that only the machines of the test set.
  anything = lib.mkOption {
    type = lib.types.attrsOf lib.types.anything;
    default = { };
  };
  vmOptions.options = {
    boot = anything;
    specialisation = anything;
    system.switch = anything;
    virtualisation = anything;
  };
  nodeOf = name: [
    vmOptions
    (vm.nodes.${name} { inherit pkgs; })
  ];
  # A machine after it was switched to a release of the test.
  releasedOf =
    name: release:
    nodeOf name
    ++ [
      (vm.nodes.${name} { inherit pkgs; }).specialisation.${release}.configuration
    ];
in
{
  "the flake gives the program, the module, mkFleet and checks" = {
    seen = {
      outputs = builtins.attrNames outputs;
      systems = builtins.attrNames outputs.packages;
      packages = builtins.attrNames outputs.packages.aarch64-linux;
      modules = builtins.attrNames outputs.nixosModules;
      checks = builtins.attrNames outputs.checks.x86_64-linux;
      fleet = (import ../example { inherit (outputs.lib) mkFleet; }).errors;
      shell = outputs.devShells.aarch64-linux.default;
      formatter = outputs.formatter.x86_64-linux;
    };
    want = {
      outputs = [
        "checks"
        "devShells"
        "formatter"
        "lib"
        "nixosModules"
        "packages"
      ];
      systems = [
        "aarch64-linux"
        "x86_64-linux"
      ];
      packages = [
        "default"
        "muster"
      ];
      modules = [ "default" ];
      checks = [
        "nixos-module"
        "package"
        "vm"
      ];
      fleet = [ ];
      shell = {
        packages = [
          "cargo"
          "cargo-deny"
          "clippy"
          "openssh"
          "rust-analyzer"
          "rustc"
          "rustfmt"
        ];
        MUSTER_NIXPKGS_LIB = "/nixpkgs/lib";
      };
      formatter = "nixfmt-tree";
    };
  };

  "the package is this workspace's program, under its version and its licence" = {
    seen = {
      inherit (muster) pname version cargoBuildFlags;
      inherit (muster.meta) mainProgram platforms;
      license = lib.concatStringsSep " OR " (map (one: one.spdxId) muster.meta.license);
      installs = builtins.match ".*\n *installManPage .*\n *installShellCompletion .*" muster.postInstall != null;
      described = muster.meta.description == (import ../../flake.nix).description;
      isCheck = outputs.checks.aarch64-linux.package == outputs.packages.aarch64-linux.muster;
    };
    want = {
      pname = "muster";
      inherit (manifest.workspace.package) version license;
      cargoBuildFlags = [
        "--package"
        "muster"
      ];
      mainProgram = "muster";
      platforms = packageLib.platforms.linux;
      installs = true;
      described = true;
      isCheck = true;
    };
  };

  "the package's sources are all that cargo reads" = {
    seen = {
      missing = builtins.filter (source: !(builtins.pathExists source)) sources;
      root = toString muster.src.root == top;
      leftOut = builtins.filter (path: !(isSource "${top}/${path}")) (
        manifest.workspace.members
        ++ [
          "Cargo.toml"
          "Cargo.lock"
        ]
      );
      lock = toString muster.cargoLock.lockFile == "${top}/Cargo.lock";
      # A crate from a repository would need its hash beside the lock file.
      notFromRegistry = builtins.filter (crate: lib.hasPrefix "git+" (crate.source or "")) lock.package;
    };
    want = {
      missing = [ ];
      root = true;
      leftOut = [ ];
      lock = true;
      notFromRegistry = [ ];
    };
  };

  "the flake's module brings the flake's program, unless another one is given" = {
    seen =
      let
        programOf = module: (viewOf [ outputs.nixosModules.default module ]).service.ExecStart;
      in
      {
        own = programOf { };
        other = programOf { services.muster.package = package "other"; };
      };
    want = {
      own = "${package "muster"}/bin/muster agent --config /etc/muster/muster.toml";
      other = "${package "other"}/bin/muster agent --config /etc/muster/muster.toml";
    };
  };

  "the test in virtual machines has a fleet of three, whose releases are what its story says" = {
    seen = lib.genAttrs (builtins.attrNames vm.nodes) (
      name:
      let
        seen = viewOf (nodeOf name);
        siteOn = release: (viewOf (releasedOf name release)).units.site.enable;
      in
      {
        inherit (seen) broken warnings;
        inherit (seen.toml) fleet host;
        checks = builtins.attrNames seen.checks;
        v2 = siteOn "v2";
        v3 = siteOn "v3";
      }
    );
    want = lib.genAttrs [ "alpha" "beta" "gamma" ] (name: {
      broken = [ ];
      warnings = [ ];
      fleet = "test";
      host = name;
      checks = [ "site" ];
      v2 = true;
      v3 = false;
    });
  };

  "the story of the test in virtual machines is told to the end" = {
    seen = builtins.isString vm.testScript && builtins.stringLength vm.testScript > 1000;
    want = true;
  };
}
