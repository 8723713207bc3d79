{
  description = "Rolls NixOS system closures out to a fleet without a server";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsOf = system: nixpkgs.legacyPackages.${system};
    in
    {
      packages = eachSystem (system: rec {
        default = muster;
        muster = (pkgsOf system).callPackage ./nixos-module/package.nix { };
      });

      # The module, with this flake's own build of the program.
      nixosModules.default =
        { lib, pkgs, ... }:
        {
          # Importing it twice, by hand and through another module, is importing it once.
          key = "muster#nixosModules.default";
          imports = [ ./nixos-module ];
          services.muster.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.muster;
        };

      # A fleet as a Nix value, to its fleet document and what its hosts have to be told.
      lib.mkFleet = import ./nixos-module/fleet.nix;

      checks = eachSystem (
        system:
        let
          pkgs = pkgsOf system;
          module = import ./nixos-module/tests { inherit lib; };
        in
        {
          package = self.packages.${system}.muster;
          nixos-module =
            if module.failed == [ ] then
              pkgs.writeText "muster-nixos-module-cases" (lib.concatLines module.lines)
            else
              throw (lib.concatLines module.lines);
          # A fleet in virtual machines; needs KVM.
          vm = import ./nixos-module/vm-test.nix {
            inherit pkgs;
            module = self.nixosModules.default;
          };
        }
      );

      devShells = eachSystem (
        system:
        let
          pkgs = pkgsOf system;
        in
        {
          default = pkgs.mkShell {
            packages = with pkgs; [
              cargo
              cargo-deny
              clippy
              openssh
              rust-analyzer
              rustc
              rustfmt
            ];
            MUSTER_NIXPKGS_LIB = "${nixpkgs}/lib";
          };
        }
      );

      formatter = eachSystem (system: (pkgsOf system).nixfmt-tree);
    };
}
