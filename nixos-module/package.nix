# The program, built from the sources beside this folder.
{
  lib,
  stdenv,
  installShellFiles,
  rustPlatform,
}:

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

  nativeBuildInputs = [ installShellFiles ];
  # The program writes them itself, so that it has to run where it is built.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/muster man man
    installManPage man/*
    installShellCompletion --cmd muster \
      --bash <($out/bin/muster completions bash) \
      --fish <($out/bin/muster completions fish) \
      --zsh <($out/bin/muster completions zsh)
  '';

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
