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
      manifest = (lib.importTOML ./Cargo.toml).workspace.package;
    in
    {
      packages = eachSystem (
        system:
        let
          pkgs = pkgsOf system;
        in
        rec {
          default = muster;
          muster = pkgs.rustPlatform.buildRustPackage {
            pname = "muster";
            inherit (manifest) version;
            src = lib.fileset.toSource {
              root = ./.;
              # Only what cargo reads: a change of a text or of the module builds nothing anew.
              fileset = lib.fileset.unions [
                ./Cargo.lock
                ./Cargo.toml
                ./agent
                ./gossip
                ./signing
                ./store
                ./tests
              ];
            };
            cargoLock.lockFile = ./Cargo.lock;
            cargoBuildFlags = [
              "--package"
              "muster"
            ];
            # The tests want a network of their own, a systemd and a Nix, which the build sandbox does not give them.
            doCheck = false;
            meta = {
              description = "Rolls NixOS system closures out to a fleet without a server";
              license = with lib.licenses; [
                mit
                asl20
              ];
              mainProgram = "muster";
              platforms = lib.platforms.linux;
            };
          };
        }
      );

      nixosModules.default =
        { pkgs, ... }:
        {
          imports = [ ./nixos-module ];
          services.muster.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.muster;
        };

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

      formatter = eachSystem (system: (pkgsOf system).nixfmt-rfc-style);
    };
}
