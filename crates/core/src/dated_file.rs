//! Data files in JSON: facts by name, with the date on which they were looked up and their sources.

/// Declares the form of a table's file (`File`, with the rows in `$rows`), and the table of the crate's own file as the
/// default.
macro_rules! dated_file {
    ($table:ident from $file:literal, $rows:ident: $row:ty) => {
        /// The form of the file.
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            as_of: Option<Box<str>>,
            #[serde(default, rename = "notes")]
            _notes: Vec<String>,
            #[serde(default, rename = "sources")]
            _sources: std::collections::BTreeMap<String, String>,
            $rows: std::collections::BTreeMap<Box<str>, $row>,
        }

        static BUILTIN: std::sync::OnceLock<$table> = std::sync::OnceLock::new();

        impl $table {
            /// The table of the crate's own file, read once.
            pub(crate) fn builtin_ref() -> &'static Self {
                BUILTIN.get_or_init(|| {
                    Self::from_json(include_str!($file)).expect("the crate's own file is right: a test reads it")
                })
            }
        }

        impl Default for $table {
            /// Returns the built-in table.
            fn default() -> Self {
                Self::builtin()
            }
        }
    };
}
pub(crate) use dated_file;
