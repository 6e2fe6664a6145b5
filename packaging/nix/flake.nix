# nix run 'git+REPOSITORY?dir=packaging/nix' -- serve
{
  description = "steadfast, a gateway that keeps language-model calls alive";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
      manifest = (nixpkgs.lib.importTOML ../../crates/cli/Cargo.toml).package;
    in
    {
      packages = nixpkgs.lib.genAttrs systems (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
        in
        {
          default = pkgs.rustPlatform.buildRustPackage {
            pname = "steadfast";
            version = manifest.version;
            src = ../..;
            cargoLock.lockFile = ../../Cargo.lock;
            cargoBuildFlags = [ "--package" manifest.name ];
            # The tests start providers and servers, which a build's sandbox lacks.
            doCheck = false;
            nativeBuildInputs = [ pkgs.installShellFiles ];
            postInstall = ''
              $out/bin/steadfast man --out man1
              installManPage man1/*
              for shell in bash zsh fish; do $out/bin/steadfast completions $shell >steadfast.$shell; done
              installShellCompletion --cmd steadfast --bash steadfast.bash --zsh steadfast.zsh --fish steadfast.fish
            '';
            meta = {
              description = manifest.description;
              license = with pkgs.lib.licenses; [ mit asl20 ];
              mainProgram = "steadfast";
            };
          };
        }
      );
    };
}
