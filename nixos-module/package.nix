# The program, built from the sources beside this folder.
{ lib, rustPlatform }:

let
  manifest = (lib.importTOML ../Cargo.toml).workspace.package;
in
rustPlatform.buildRustPackage {
  pname = "muster";
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    # Only what cargo reads: a change of a text or of the module builds nothing anew.
    fileset = lib.fileset.unions [
      ../Cargo.lock
      ../Cargo.toml
      ../agent
      ../gossip
      ../signing
      ../store
      ../tests
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

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
}
