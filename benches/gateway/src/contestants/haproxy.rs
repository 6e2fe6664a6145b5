//! haproxy as a reverse proxy with one thread: the first server as long as it is up, a failed request once more at the
//! other, and a server that fails five times in a row left alone for a minute.

use std::{path::Path, process::Command};

use super::{Gateway, LIMIT, Surroundings, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    let said = version(Path::new("haproxy"), &["-v"])?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let limit = LIMIT.as_secs();
    // `balance first` in place of `backup`: a request is sent once more to another server alone, and a backup is none
    // while the first one counts as up.
    let text = format!(
        "global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect {limit}s
    timeout client 600s
    timeout server {limit}s
    timeout http-keep-alive 600s
    option http-no-delay
    option redispatch 1
    retries 1
    retry-on conn-failure empty-response response-timeout 503
    http-reuse always
frontend callers
    bind {listen} backlog 1024
    default_backend providers
backend providers
    balance first
    default-server check inter 60s rise 1 fall 1 observe layer7 error-limit 5 on-error mark-down pool-max-conn 512
    server primary {primary}
    server backup {backup}
"
    );
    let file = surroundings.write("haproxy.cfg", &text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    let said = said.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    Ok(Gateway { version: said, command, target: surroundings.target(Dialect::OpenAi, "gpt-4o-mini"), says: None })
}
