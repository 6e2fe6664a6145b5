# A formula for a tap of one's own. packaging/release fills in the repository, the version and the checksum.
class Steadfast < Formula
  desc "Gateway that keeps language-model calls alive"
  homepage "@REPOSITORY@"
  url "@REPOSITORY@/releases/download/v@VERSION@/steadfast-@VERSION@-source.tar.gz"
  sha256 "@SHA256@"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args(path: "crates/cli")
    system bin/"steadfast", "man", "--out", man1
    generate_completions_from_executable(bin/"steadfast", "completions")
    (etc/"steadfast").install "packaging/etc/steadfast.yaml"
  end

  # The providers' keys (ANTHROPIC_API_KEY=..) are in the file environment, with mode 0600.
  service do
    run ["/bin/sh", "-c", <<~SH]
      set -a
      [ ! -r #{etc}/steadfast/environment ] || . #{etc}/steadfast/environment
      exec #{opt_bin}/steadfast serve --config #{etc}/steadfast/steadfast.yaml --grace 30
    SH
    keep_alive crashed: true
    log_path var/"log/steadfast.log"
    error_log_path var/"log/steadfast.log"
  end

  test do
    assert_match "steadfast #{version}", shell_output("#{bin}/steadfast --version")
    assert_match "no mistake found", shell_output("#{bin}/steadfast check --offline #{etc}/steadfast/steadfast.yaml")
  end
end
