//! Loads a [`Config`] from a text.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    Config, ConfigError, Environment, check,
    error::Problem,
    expand,
    file_text::{FileText, MAX_BYTES},
    format::Format,
    import::Form,
    overrides,
    report::Report,
    source::Source,
    tree::{self, Node, Place},
};
use steadfast::prices::PriceTable;

/// The most unknown keys and values of the wrong type that one reading looks for.
const WRONG_VALUES: usize = 50;

/// Reads configurations with a chosen environment and chosen prices.
///
/// ```
/// use steadfast_stack::{Environment, Format, Loader};
///
/// let environment: Environment =
///     [("MODEL", "gpt-4o"), ("STEADFAST__FEATURES__CHAT__CONCURRENCY", "5")].into_iter().collect();
/// let text = "
/// tiers: [{ name: main, provider: openai, model: '${MODEL}' }]
/// features: { chat: { concurrency: 20 } }
/// ";
/// let config = Loader::new().environment(environment).text(text, Format::Yaml).unwrap();
/// assert_eq!(config.tiers[0].model.as_deref(), Some("gpt-4o"));
/// assert_eq!(config.features["chat"].concurrency, Some(5));
/// ```
#[derive(Clone)]
pub struct Loader {
    environment: Environment,
    priced: Arc<Priced>,
    stand_ins: bool,
}

/// Returns whether a model has a price, by the provider's name and the model's.
type Priced = dyn Fn(&str, &str) -> bool + Send + Sync;

impl Loader {
    /// Creates a loader with this process's environment and the crate's own prices.
    pub fn new() -> Self {
        let prices = PriceTable::builtin();
        let priced = move |provider: &str, model: &str| prices.price(Some(provider), model).is_some();
        Self { environment: Environment::process(), priced: Arc::new(priced), stand_ins: false }
    }

    /// Sets the environment for references and overrides.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Puts a harmless placeholder in place of an unset variable in a header, a store or an address. Use it if no call
    /// is made, as in a drill on a machine without the secrets. Default: an unset variable is an error.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        self.stand_ins = true;
        self
    }

    /// Sets which models have a price besides those in the file. The function receives the provider's name
    /// ([`Provider::name`]) and the model's. A budget that counts a model without a price is an error. Default: the
    /// models of [`PriceTable::builtin`].
    ///
    /// [`Provider::name`]: super::Provider::name
    #[must_use]
    pub fn priced(mut self, priced: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.priced = Arc::new(priced);
        self
    }

    /// Reads a file; its suffix determines the format.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it: see [`ConfigError`].
    pub fn path(&self, path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        self.file(&FileText::read(path.as_ref())?)
    }

    /// Reads the text of a file.
    pub(super) fn file(&self, file: &FileText) -> Result<Config, ConfigError> {
        self.load(Some(file.path.clone()), &file.text, file.format)
    }

    /// Reads a text of this format.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it: see [`ConfigError`].
    pub fn text(&self, text: &str, format: Format) -> Result<Config, ConfigError> {
        if text.len() > MAX_BYTES {
            let message = "the text is longer than 1 MiB; shorten it";
            return Err(ConfigError::new(vec![Problem::of_file(None, message)]));
        }
        self.load(None, text, format)
    }

    fn load(&self, file: Option<PathBuf>, text: &str, format: Format) -> Result<Config, ConfigError> {
        let (mut source, mut tree) = parsed(file, text, format)?;
        if matches!(tree.value, tree::Value::Null) {
            // An empty file reports missing keys at its start.
            tree.place = Place::Text(0..0);
        }
        source.hide_secrets_of(&tree);
        let mut report = Report::new(&source);
        let form = Form::of(&tree);
        if let Some(foreign) = form.foreign(&tree) {
            return Err(ConfigError::new(vec![source.problem(None, foreign)]));
        }
        form.prune(&mut tree);
        // Editors find the schema in JSON by this key.
        tree.take("$schema");
        expand::expand(&mut tree, &self.environment, self.stand_ins, &mut report);
        let config = match form.rewrite(tree) {
            Ok(mut tree) => {
                overrides::apply(&mut tree, &self.environment, &mut report);
                let config = read(&mut tree, &mut report);
                if let Some(config) = &config {
                    check::check(config, &*self.priced, &mut check::Findings::new(&tree, &mut report));
                }
                config
            }
            Err(fault) => {
                report.fault(fault);
                None
            }
        };
        report.into_result(config).map(Config::ordered)
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("environment", &self.environment).finish_non_exhaustive()
    }
}

/// Parses a text into a tree, with the source that shows wrong lines.
fn parsed(file: Option<PathBuf>, text: &str, format: Format) -> Result<(Source, Node), ConfigError> {
    // Some editors put this byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source::new(file, text.to_owned());
    match tree::parse(source.text(), format) {
        Ok(tree) => Ok((source, tree)),
        Err(unreadable) => {
            let place = unreadable.place.map(Place::Text);
            Err(ConfigError::new(vec![source.problem(place.as_ref(), unreadable.message)]))
        }
    }
}

/// Reads the tree into the schema and continues after an error, so that all errors are reported at once. An unknown
/// key is replaced by its likely meaning, and a value of the wrong type is left out.
fn read<T: for<'de> Deserialize<'de>>(tree: &mut Node, report: &mut Report<'_>) -> Option<T> {
    // The blocks with a key left out, and that key.
    let mut lacking: Vec<(Place, String)> = Vec::new();
    for _ in 0..WRONG_VALUES {
        let fault = match tree::read::<T>(tree) {
            Ok(read) => return lacking.is_empty().then_some(read),
            Err(fault) => fault,
        };
        let place = fault.place.clone().unwrap_or_else(|| tree.place.clone());
        let (unknown_key, meant) = (fault.unknown_key, fault.suggestion.clone());
        // A key that was left out is not reported as missing.
        let known = |key: &str| lacking.iter().any(|(block, left_out)| *block == place && left_out == key);
        if !fault.missing_key.is_some_and(known) {
            report.fault(fault);
        }
        if !unknown_key {
            match tree.remove_value_at(&place) {
                Some(left_out) => lacking.push(left_out),
                None => return None,
            }
        } else if !tree.correct_key_at(&place, meant.as_deref()) {
            return None;
        }
    }
    None
}

/// Reads a file that is not a configuration but equally small and strict; `check` looks for errors in meaning.
///
/// # Errors
///
/// Returns every problem, with its line: an unreadable file, wrong syntax, unknown keys, and what `check` finds.
pub fn document<T: for<'de> Deserialize<'de>>(
    path: &Path,
    check: impl FnOnce(&T, &mut check::Findings<'_, '_>),
) -> Result<T, ConfigError> {
    let file = FileText::read(path)?;
    document_of(Some(path), &file.text, file.format, check)
}

/// Reads the same kind of document from a text.
///
/// # Errors
///
/// Returns every problem, as [`document`] does.
pub fn document_of<T: for<'de> Deserialize<'de>>(
    file: Option<&Path>,
    text: &str,
    format: Format,
    check: impl FnOnce(&T, &mut check::Findings<'_, '_>),
) -> Result<T, ConfigError> {
    let (source, mut tree) = parsed(file.map(Path::to_owned), text, format)?;
    let mut report = Report::new(&source);
    let read = read(&mut tree, &mut report);
    if let Some(read) = &read {
        check(read, &mut check::Findings::new(&tree, &mut report));
    }
    report.into_result(read)
}
