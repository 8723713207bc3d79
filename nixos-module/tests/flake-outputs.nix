# What the flake gives, seen with just so much of Nixpkgs as its outputs look at.
{ lib }:

let
  nixpkgs = {
    inherit lib;
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: {
      inherit lib;
      callPackage = file: _: file;
      testers.runNixOSTest = test: test;
    });
  };
  outputs = (import ../../flake.nix).outputs {
    self = outputs;
    inherit nixpkgs;
  };
  vm = outputs.checks.x86_64-linux.vm;
in
{
  "the flake gives the program, the module, mkFleet and checks" = {
    seen = {
      outputs = builtins.attrNames outputs;
      systems = builtins.attrNames outputs.packages;
      packages = builtins.mapAttrs (_: baseNameOf) outputs.packages.aarch64-linux;
      modules = builtins.attrNames outputs.nixosModules;
      checks = builtins.attrNames outputs.checks.x86_64-linux;
      fleet = (import ../example { inherit (outputs.lib) mkFleet; }).errors;
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
      packages = {
        default = "package.nix";
        muster = "package.nix";
      };
      modules = [ "default" ];
      checks = [
        "nixos-module"
        "package"
        "vm"
      ];
      fleet = [ ];
    };
  };

  "the test in virtual machines has a fleet of three" = {
    seen = builtins.attrNames vm.nodes;
    want = [
      "alpha"
      "beta"
      "gamma"
    ];
  };
}
