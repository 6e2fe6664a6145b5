//! A durable store that a command opens by itself.

use std::{path::Path, sync::Arc};

use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_handoff::TaskStore;
use steadfast_stack::{Config, Stores};
#[cfg(feature = "postgres")]
use steadfast_stores::postgres::Postgres;
use steadfast_stores::{registry::RegistryStore, sqlite::Sqlite};

use crate::{Failure, exit::say};

/// An open store.
pub(crate) enum OpenStore {
    Sqlite(Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

impl OpenStore {
    /// Opens a store. A file that is not there is made only where it `may_begin`: a mistyped name must not create one.
    pub(crate) async fn open(store: &str, may_begin: bool) -> Result<Self, Failure> {
        Self::open_for(store, &Stores::default(), may_begin).await
    }

    /// Opens a store, for the deployment of these settings.
    async fn open_for(store: &str, settings: &Stores, may_begin: bool) -> Result<Self, Failure> {
        if let Some(file) = store.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            if !Path::new(file).is_file() {
                if !may_begin {
                    return Err(Failure::usage(format_args!("no such file: {file}")));
                }
                let whole = std::path::absolute(file).unwrap_or_else(|_| file.into());
                say(format_args!("a new store begins: {}\n", whole.display()));
            }
            let file = Sqlite::open_for(file, settings.owner().as_ref());
            return file.map(Self::Sqlite).map_err(|problem| failure(&problem));
        }
        if ["postgres://", "postgresql://"].iter().any(|scheme| store.starts_with(scheme)) {
            #[cfg(feature = "postgres")]
            {
                let database = Postgres::lazy_for(store, settings.owner()).map_err(|problem| failure(&problem))?;
                database.check().await.map_err(|problem| failure(&problem))?;
                return Ok(Self::Postgres(database));
            }
            #[cfg(not(feature = "postgres"))]
            return Err(Failure::usage("this command was built without PostgreSQL (feature `postgres`)"));
        }
        // The error leaves the value out: it may have a password.
        Err(Failure::usage("a store is named as sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE"))
    }

    /// Opens the durable store of a configuration.
    pub(crate) async fn open_configured(path: &Path, may_begin: bool) -> Result<(Self, Config), Failure> {
        let config = Config::from_path(path)?;
        let Some(store) = &config.stores.durable else {
            let problem = format!("{}: it names no store: `stores: {{ durable: sqlite:FILE }}`", path.display());
            return Err(Failure::usage(problem));
        };
        Ok((Self::open_for(store, &config.stores, may_begin).await?, config))
    }

    pub(crate) fn tasks(self) -> Arc<dyn TaskStore> {
        match self {
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }

    pub(crate) fn registry(self) -> Arc<dyn RegistryStore> {
        match self {
            Self::Sqlite(file) => Arc::new(file),
            #[cfg(feature = "postgres")]
            Self::Postgres(database) => Arc::new(database),
        }
    }
}

/// Returns the failure of a store: a wrong name is a mistake of the command line, a broken store is not.
pub(crate) fn failure(problem: &StoreError) -> Failure {
    match problem.kind() {
        StoreErrorKind::Misconfigured | StoreErrorKind::NewerSchema => Failure::usage(problem),
        _ => Failure::Refused(format!("error: {problem}")),
    }
}
