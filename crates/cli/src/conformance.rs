//! `steadfast conformance`: questions to any gateway or provider.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
};

use bytes::Bytes;
use clap::Args;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use steadfast::providers::{http::RequestBody, transport::HttpClient};
use steadfast_conformance::{Caller, Case, Catalogue, Conformance as Run, ResponseBody, Subject, Upstream, Upstreams};
use steadfast_simulator::SimulatedServer;
use steadfast_stack::Span;
use tower::{BoxError, ServiceExt as _, service_fn};

use super::{
    Failure,
    exit::say,
    remote::Remote,
    terminal::{on_a_line, printable},
};

/// Ask any gateway or provider whether it keeps what callers rely on: ends, usage, errors, and with --primary faults
///
/// With --primary and --backup the command is the gateway's two providers as well, simulated, on these addresses: let
/// the gateway send every request to the first, and to the second when that fails. Each speaks Anthropic Messages,
/// OpenAI Chat Completions, OpenAI Responses and Gemini, and takes any key but `bad-key`. Then it also sees the sixteen
/// faults of failoverbench, what of a request reaches the provider, and whether a caller who leaves takes its call
/// along.
///
/// A verdict is `pass`; `told`, if a stream that had begun ended with an error; `fail`; or `skip`. Without --primary
/// the questions are few and short, but a real provider's answers cost money.
///
/// Exit code: 0 if nothing fails; 1 if something fails, the URL serves no caller, or an address is taken; 2 if the
/// command line is wrong.
#[derive(Args)]
pub(crate) struct Conformance {
    /// The URL before `/v1`
    #[arg(value_name = "URL", required_unless_present = "list")]
    url: Option<Uri>,
    /// The address of the first simulated provider
    #[arg(long, value_name = "ADDRESS", requires = "backup")]
    primary: Option<SocketAddr>,
    /// The address of the second
    #[arg(long, value_name = "ADDRESS", requires = "primary")]
    backup: Option<SocketAddr>,
    /// The model to ask for
    #[arg(long, value_name = "NAME", default_value = "default")]
    model: String,
    /// The environment variable with the key
    #[arg(long, value_name = "NAME", default_value = "STEADFAST_KEY")]
    key_env: String,
    /// A caller: messages, chat, responses or gemini, with -stream for a stream; repeatable [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = caller)]
    caller: Vec<Caller>,
    /// Leave out the probes whose name does not begin so: faults/, ends/stop; repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// The longest time to the end of an answer
    #[arg(long, value_name = "TIME", default_value = "100s")]
    patience: Span,
    /// The longest wait for the gateway to go back to its first provider after a fault
    #[arg(long, value_name = "TIME", default_value = "2m")]
    rest: Span,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// The name of the gateway or provider in the JSON object [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// List the probes and their sources
    #[arg(long)]
    list: bool,
}

impl Conformance {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Some(url) = self.url.clone().filter(|_| !self.list) else {
            return Ok(write!(io::stdout().lock(), "{Catalogue}")?);
        };
        let name = self.subject.clone().unwrap_or_else(|| url.host().unwrap_or_default().to_owned());
        let mut run = Run::new(self.subject(Remote::reading(url, &self.key_env)?)).rest(self.rest.0).only(&self.only);
        if !self.caller.is_empty() {
            run = run.callers(self.caller.iter().copied());
        }
        // They listen as long as they live.
        let mut servers = Vec::new();
        if let (Some(primary), Some(backup)) = (self.primary, self.backup) {
            let upstreams = Upstreams { primary: Upstream::new("primary"), backup: Upstream::new("backup") };
            for (upstream, address) in [(&upstreams.primary, primary), (&upstreams.backup, backup)] {
                let transcript = upstream.transcript();
                let server = SimulatedServer::start_with_transcript(upstream.provider(), address, &transcript).await;
                servers.push(
                    server.map_err(|error| Failure::Unready(format!("error: cannot listen on {address}: {error}")))?,
                );
            }
            run = run.upstreams(upstreams);
        }
        if run.probes().next().is_none() {
            let message = "--only leaves no probe; --list has their names, and faults need --primary and --backup";
            return Err(Failure::usage(message));
        }
        let report = run.run(tell).await;
        let mut out = io::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", report.to_json(&name))?,
            false => write!(out, "{}", printable(&report.to_string()))?,
        }
        if !report.is_served() {
            let why = report.cases().first().map_or("", |case| case.verdict.why());
            return Err(Failure::Unready(format!("error: the URL serves no caller; for the first: {why}")));
        }
        match report.count("fail") {
            0 => Ok(()),
            failed => Err(Failure::Missed(format!("{failed} of {} fail", report.cases().len()))),
        }
    }

    fn subject(&self, remote: Remote) -> Subject {
        // No proxy leads to this machine.
        let client = if remote.is_local() { HttpClient::new().no_proxy() } else { HttpClient::new() };
        let address = remote.address();
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            let (client, address) = (client.clone(), address.clone());
            async move { send(client, &address, request).await }
        });
        let subject = Subject::new(service).model(self.model.as_str()).patience(self.patience.0);
        match remote.key() {
            Some(key) => subject.key(key),
            None => subject,
        }
    }
}

/// Sends a request whose URI has a path alone.
async fn send(
    client: HttpClient,
    address: &str,
    request: Request<Full<Bytes>>,
) -> Result<Response<ResponseBody>, BoxError> {
    let (mut head, body) = request.into_parts();
    head.uri = format!("{address}{}", head.uri).parse()?;
    head.headers.insert(header::USER_AGENT, header::HeaderValue::from_static("steadfast-conformance"));
    let body = RequestBody::from(body.collect().await?.to_bytes());
    let response = client.oneshot(Request::from_parts(head, body)).await?;
    Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
}

/// Tells each end as it comes, to a person.
fn tell(case: &Case) {
    if io::stderr().is_terminal() {
        let why = case.verdict.why();
        let why = if why.is_empty() { String::new() } else { format!(": {}", on_a_line(why)) };
        say(format_args!("{:<5} {}{why}\n", case.verdict.word(), case.name()));
    }
}

fn caller(name: &str) -> Result<Caller, String> {
    Caller::of(name).ok_or_else(|| {
        let names: Vec<&str> = Caller::ALL.into_iter().map(Caller::name).collect();
        format!("one of {}", names.join(", "))
    })
}
