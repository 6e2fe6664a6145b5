//! `steadfast key`: the keys of callers, in a file or in the gateway's store.

mod show;

use std::{io::Write as _, path::PathBuf};

use clap::{Args, Subcommand};
use http::{Method, Uri};
use serde_json::{Map, Value, json};
use steadfast_gateway::{VirtualKey, key_documents, make_key};

use crate::{
    Failure,
    remote::{Remote, escaped},
    store::OpenStore,
    terminal,
};

/// Make and manage the keys of the gateway's callers
///
/// `steadfast key NAME` makes a key and its entry for a file of keys, and stores it nowhere. The orders work on the
/// keys in the store of a running gateway, whose configuration has `gateway: { keys: { store: durable } }`. They need a
/// key with `admin: true` in an environment variable, since other users can see a command line. The first
/// administrator's key is made in the store itself: `steadfast key create NAME --admin --config FILE`. All that is kept
/// of a key's requests belongs to its name, so that a new team takes a new name.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Key {
    /// The caller's name, for logs and records: prints a key and its entry for a file
    #[arg(required = true)]
    name: Option<String>,

    #[command(subcommand)]
    order: Option<Order>,
}

/// The gateway of an order.
#[derive(Args)]
struct Gateway {
    /// The gateway
    #[arg(long, value_name = "URL", env = "STEADFAST_URL", default_value = "http://127.0.0.1:8080")]
    url: Uri,

    /// The environment variable of the administrator's key
    #[arg(long, value_name = "NAME", default_value = "STEADFAST_ADMIN_KEY")]
    key_env: String,

    /// Print the gateway's own answer, in JSON
    #[arg(long)]
    json: bool,
}

/// The rights and limits of a key.
#[derive(Args)]
struct Rights {
    /// The team that pays
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// The features that it may use, the first of which serves a request that names none [default: any]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    features: Option<Vec<String>>,
    /// The models that it may ask for, such as gpt-4o or claude-* [default: any]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// The most requests in a minute
    #[arg(long, value_name = "REQUESTS")]
    requests_per_minute: Option<u32>,
    /// The most tokens in a minute, of prompts and answers together
    #[arg(long, value_name = "TOKENS")]
    tokens_per_minute: Option<u32>,
    /// The most requests at once
    #[arg(long, value_name = "REQUESTS")]
    concurrency: Option<u32>,
    /// The most US dollars in each period
    #[arg(long, value_name = "DOLLARS")]
    usd: Option<f64>,
    /// The period: hour, day, week, month [default: the one that it has, or month for a new key]
    #[arg(long, value_name = "PERIOD", requires = "usd")]
    period: Option<String>,
    /// The first day on which it is refused, in UTC, such as 2027-01-01
    #[arg(long, value_name = "DAY")]
    expires: Option<String>,
    /// An administrator's: it sees and orders everything
    #[arg(long)]
    admin: bool,
    /// A reviewer's: it sees and answers tasks for people
    #[arg(long)]
    handoff: bool,
    /// The objects of the account that it may name, such as files: own, all, none [default: own]
    #[arg(long, value_name = "OBJECTS")]
    objects: Option<String>,
    /// It may ask for paths that the gateway does not know
    #[arg(long)]
    pass_through: bool,
}

#[derive(Subcommand)]
enum Order {
    /// Make a key, and print its secret once
    Create {
        /// The caller's name, for logs, records and bills
        name: String,
        #[command(flatten)]
        rights: Rights,
        /// Make it in the store of this configuration, without a gateway: for the first administrator
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// List the keys: rights, limits, and what they have spent
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show one key
    Show {
        name: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Change the rights and limits of a key; what is not named stays
    Limit {
        name: String,
        #[command(flatten)]
        rights: Rights,
        /// Take these back to their defaults, such as budget, models or admin
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        clear: Vec<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Give a key a new secret, and print it once; its earlier ones go on for a while
    Rotate {
        name: String,
        /// The time for which the earlier secrets go on; 0s ends them at once
        #[arg(long, value_name = "TIME", default_value = "24h")]
        overlap: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Refuse the requests of a key until it is resumed
    Pause {
        name: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Serve the requests of a key again
    Resume {
        name: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Remove a key; its requests under way end as they would
    Remove {
        name: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Add the keys of a file to the store, all or none; their secrets stay as they are
    Import {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Tell who changed which key, and how, the newest first
    Log {
        /// Only changes of this key
        name: Option<String>,
        /// The most changes, from 1 to 1000
        #[arg(long, value_name = "CHANGES", default_value_t = 20)]
        limit: u16,
        #[command(flatten)]
        gateway: Gateway,
    },
}

impl Rights {
    /// Returns the fields that the command line names.
    fn document(&self) -> Map<String, Value> {
        let budget = self.usd.map(|usd| match &self.period {
            Some(period) => json!({ "usd": usd, "period": period }),
            None => json!({ "usd": usd }),
        });
        let objects = self.objects.as_deref().map(|word| if word == "none" { json!(false) } else { json!(word) });
        let fields = [
            ("team", json!(self.team)),
            ("features", json!(self.features)),
            ("models", json!(self.models)),
            ("requests_per_minute", json!(self.requests_per_minute)),
            ("tokens_per_minute", json!(self.tokens_per_minute)),
            ("concurrency", json!(self.concurrency)),
            ("budget", json!(budget)),
            ("expires", json!(self.expires)),
            ("admin", json!(self.admin.then_some(true))),
            ("handoff", json!(self.handoff.then_some(true))),
            ("objects", json!(objects)),
            ("pass_through", json!(self.pass_through.then_some(true))),
        ];
        fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Key {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.order {
            Some(order) => order.run().await,
            None => print_entry(self.name.unwrap_or_default()),
        }
    }
}

impl Order {
    async fn run(self) -> Result<(), Failure> {
        if let Self::Create { name, rights, config: Some(config), gateway } = &self {
            let (store, _) = OpenStore::open_configured(config, true).await?;
            let document = named(name, rights.document());
            let made = make_key(store.registry(), document).await;
            let secret = made.map_err(|problem| Failure::Refused(format!("error: {problem}")))?;
            let answer = json!({ "key": { "name": name }, "secret": secret.secret() });
            return self.print(&answer, gateway.json);
        }
        let (method, path, body) = self.request()?;
        let gateway = self.gateway();
        let remote = Remote::of(gateway.url.clone(), &gateway.key_env, "`admin: true`")?;
        let answer = remote.order(method, &path, body).await?;
        self.print(&answer, gateway.json)
    }

    fn gateway(&self) -> &Gateway {
        match self {
            Self::Create { gateway, .. }
            | Self::List { gateway }
            | Self::Show { gateway, .. }
            | Self::Limit { gateway, .. }
            | Self::Rotate { gateway, .. }
            | Self::Pause { gateway, .. }
            | Self::Resume { gateway, .. }
            | Self::Remove { gateway, .. }
            | Self::Import { gateway, .. }
            | Self::Log { gateway, .. } => gateway,
        }
    }

    /// Returns the method, the path, and the body if there is one.
    fn request(&self) -> Result<(Method, String, Option<Value>), Failure> {
        let of = |name: &str| format!("/admin/keys/{}", escaped(name));
        let patch = |name: &str, body: Value| (Method::PATCH, of(name), Some(body));
        Ok(match self {
            Self::Create { name, rights, .. } => {
                (Method::POST, "/admin/keys".to_owned(), Some(named(name, rights.document()).into()))
            }
            Self::List { .. } => (Method::GET, "/admin/keys".to_owned(), None),
            Self::Show { name, .. } => (Method::GET, of(name), None),
            Self::Limit { name, rights, clear, .. } => {
                let mut changes = rights.document();
                changes.extend(clear.iter().map(|name| (name.clone(), Value::Null)));
                if changes.is_empty() {
                    return Err(Failure::usage("name what to change, such as --concurrency 20 or --clear budget"));
                }
                patch(name, changes.into())
            }
            Self::Rotate { name, overlap, .. } => {
                (Method::POST, of(name) + "/rotate", Some(json!({ "overlap": overlap })))
            }
            Self::Pause { name, .. } => patch(name, json!({ "paused": true })),
            Self::Resume { name, .. } => patch(name, json!({ "paused": null })),
            Self::Remove { name, .. } => (Method::DELETE, of(name), None),
            Self::Import { file, .. } => {
                let keys = json!({ "keys": key_documents(file)? });
                (Method::POST, "/admin/keys".to_owned(), Some(keys))
            }
            Self::Log { name, limit, .. } => {
                let of_key = name.as_deref().map(|name| format!("&key={}", escaped(name))).unwrap_or_default();
                (Method::GET, format!("/admin/audit?limit={limit}{of_key}"), None)
            }
        })
    }

    fn print(&self, answer: &Value, as_json: bool) -> Result<(), Failure> {
        let text = match self {
            _ if as_json => terminal::json(answer),
            Self::Create { .. } | Self::Rotate { .. } => show::secret(answer),
            Self::List { .. } => show::list(answer),
            Self::Show { .. } | Self::Limit { .. } | Self::Pause { .. } | Self::Resume { .. } => show::key(answer),
            Self::Remove { name, .. } => format!("removed: {name}\n"),
            Self::Import { .. } => format!("imported: {}\n", answer["imported"]),
            Self::Log { .. } => show::log(answer),
        };
        Ok(std::io::stdout().lock().write_all(terminal::printable(&text).as_bytes())?)
    }
}

/// Returns the document of a new key.
fn named(name: &str, mut document: Map<String, Value>) -> Map<String, Value> {
    document.insert("name".to_owned(), name.into());
    if let Some(budget) = document.get_mut("budget").and_then(Value::as_object_mut) {
        budget.entry("period").or_insert_with(|| "month".into());
    }
    document
}

/// Prints a key and its entry for a file of keys.
fn print_entry(name: String) -> Result<(), Failure> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Failure::usage("a key needs a name, of characters that can be seen"));
    }
    // A JSON string is a YAML string.
    let name = Value::from(name);
    let key = VirtualKey::generate().map_err(|error| Failure::Config(format!("error: no randomness: {error}")))?;
    let (secret, hash) = (key.secret(), key.hash());
    write!(
        std::io::stdout().lock(),
        "The key, which is not shown again:\n\n  {secret}\n\nIts entry in the file for `serve --keys FILE`. It may \
         have more: team, features, models, requests_per_minute,\ntokens_per_minute, concurrency, \
         budget: {{ usd: 50, period: day }}, expires: 2027-01-01, admin: true,\nhandoff: true, \
         objects: false, pass_through: true. Put them before the hash, and `...` on the last line\nof the file, so \
         that a file that is read while it is written gives no key more than it is to have.\n\n\
         Kept responses, objects, tasks and spending belong to the name: \
         a name that another team has had shows theirs.\n\nkeys:\n  - name: {name}\n    hash: {hash}\n"
    )?;
    Ok(())
}
