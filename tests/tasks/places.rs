//! Places for stores, each a test's own.

#[cfg(feature = "sqlite")]
pub(crate) struct Folder(std::path::PathBuf);

#[cfg(feature = "sqlite")]
impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("steadfast-tasks-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.0.join("tasks.db")
    }

    pub(crate) fn open(&self) -> steadfast::store::sqlite::Sqlite {
        steadfast::store::sqlite::Sqlite::open(self.file()).unwrap()
    }
}

#[cfg(feature = "sqlite")]
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A schema of a test's own in the database for tests.
#[cfg(feature = "postgres")]
pub(crate) struct Schema {
    name: String,
    server: tokio_postgres::Client,
    url: String,
}

#[cfg(feature = "postgres")]
impl Schema {
    /// `None`, said in one line, where there is no server for tests.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        let Ok(base) = std::env::var("STEADFAST_TEST_POSTGRES") else {
            println!("skipped: STEADFAST_TEST_POSTGRES names no database");
            return None;
        };
        let (server, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        // A name is 63 bytes at most.
        let name: String = format!("tasks_{}_{test}", std::process::id()).chars().take(60).collect();
        let anew = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}; SET search_path = {name}");
        server.batch_execute(&anew).await.unwrap();
        let and = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{and}options=-c%20search_path%3D{name}");
        Some(Self { name, server, url })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn open(&self) -> steadfast::store::postgres::Postgres {
        steadfast::store::postgres::Postgres::connect(&self.url).await.unwrap()
    }

    /// Does something behind the store's back.
    pub(crate) async fn execute(&self, sql: &str) {
        self.server.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn ends(self) {
        self.execute(&format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}
