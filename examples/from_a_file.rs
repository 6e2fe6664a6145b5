//! The whole stack from a configuration file, and a change of it while requests are under way.
//!
//! `cargo run --example from_a_file` needs no key and no network. `Stack::from_path("steadfast.yaml")` reads a file,
//! and `stack.handle().watch()` follows it.

use steadfast::{
    LlmRequest,
    providers::{Simulated, simulated::Fault},
};
use steadfast_stack::{Config, Format, Stack};
use tower::{BoxError, ServiceExt};

const FILE: &str = "
tiers:                                   # in order of preference
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    timeout: { attempt: 30s, first_token: 10s }
  - { name: sorry, provider: canned, text: Please try again in a minute. }
features:
  chat: { concurrency: 20 }
timeout: 10m
";

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    // A simulated provider in the place of the tier's own: no key is looked up.
    let sonnet = Simulated::new("sonnet").reply("A function with its surroundings.");
    let provider = sonnet.handle();
    let stack = Stack::builder().leaf("sonnet", sonnet).build(Config::from_str(FILE, Format::Yaml)?)?;
    let ask = || stack.service().oneshot(LlmRequest::prompt("What is a closure?").with_feature("chat"));

    println!("{}", ask().await?.text().await?);
    provider.fail(Fault::Overloaded);
    assert_eq!(ask().await?.text().await?, "Please try again in a minute.");

    let changed = FILE.replace("in a minute", "in an hour");
    stack.handle().reload(Config::from_str(&changed, Format::Yaml)?)?;
    let answer = ask().await?.text().await?;
    println!("{answer}");
    assert_eq!(answer, "Please try again in an hour.");
    Ok(())
}
