//! Tokens that a command writes to its standard output.

use std::{ffi::OsString, io, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

use super::{Source, SourceError, TokenFuture, output};
use crate::InvalidConfig;

/// The longest time for a command. A person who has to type a code takes longer, and is no part of a server.
const LIMIT: Duration = Duration::from_secs(30);
/// The largest output that is read, in bytes.
const LARGEST_OUTPUT: u64 = 1 << 20;
/// The bytes of the first line of the error output that go into an error.
const LONGEST_LINE: usize = 200;

/// A command, and its arguments, as a source.
pub(super) struct CommandSource {
    argv: Vec<OsString>,
}

impl CommandSource {
    pub(super) fn new(argv: Vec<OsString>) -> Result<Self, InvalidConfig> {
        match argv.first() {
            Some(program) if !program.is_empty() => Ok(Self { argv }),
            _ => Err(InvalidConfig::new("command", "it is empty; name a program and its arguments")),
        }
    }
}

impl Source for CommandSource {
    /// The arguments are omitted: they may hold a secret.
    fn name(&self) -> String {
        format!("the command `{}`", program(&self.argv))
    }

    fn fetch(&self) -> TokenFuture<'_> {
        Box::pin(async { output::any(&run(&self.argv).await?) })
    }
}

/// Returns a program's name without its folder.
pub(super) fn program(argv: &[OsString]) -> String {
    let program = argv.first().map(|program| Path::new(program).file_name().unwrap_or(program).to_string_lossy());
    program.unwrap_or_default().into_owned()
}

/// Returns true for a variable that a command gets: those of the system, of its clouds, and those that its arguments
/// name as `$NAME`. The rest of the environment holds the keys of all providers.
fn gets(name: &str, arguments: &[OsString]) -> bool {
    let upper = name.to_ascii_uppercase();
    let is_key = upper.ends_with("_API_KEY") || upper == "AWS_BEARER_TOKEN_BEDROCK" || upper.starts_with("STEADFAST_");
    let is_usual = NAMES.contains(&&*upper) || FAMILIES.iter().any(|family| upper.starts_with(family));
    is_usual && !is_key || arguments.iter().filter_map(|argument| argument.to_str()).any(|text| names(text, name))
}

/// Returns true if a text has `$NAME`.
fn names(text: &str, name: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|next: char| next == '_' || next.is_ascii_alphanumeric());
    text.split('$').skip(1).any(|after| after.strip_prefix(name).is_some_and(|rest| !goes_on(rest)))
}

/// The variables that programs need on any system.
const NAMES: [&str; 43] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "HOSTNAME",
    "TERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TMP",
    "TEMP",
    "LD_LIBRARY_PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "KUBECONFIG",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "VIRTUAL_ENV",
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "PROGRAMFILES(X86)",
    "PROGRAMW6432",
    "COMMONPROGRAMFILES",
    "USERPROFILE",
    "USERNAME",
    "HOMEDRIVE",
    "HOMEPATH",
    "OS",
];
/// The beginnings of those of the system's and of clouds' own programs.
const FAMILIES: [&str; 14] = [
    "LC_",
    "XDG_",
    "SSL_CERT_",
    "AWS_",
    "AZURE_",
    "ARM_",
    "MSI_",
    "IDENTITY_",
    "GOOGLE_",
    "GCLOUD_",
    "CLOUDSDK_",
    "GCE_",
    "VAULT_",
    "KUBERNETES_",
];

/// Runs a command and returns its standard output. A dropped future kills the command.
///
/// An error has the first line of the command's error output, and never its standard output.
pub(super) async fn run(argv: &[OsString]) -> Result<Vec<u8>, SourceError> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(SourceError::setup("the command is empty"));
    };
    let mut command = Command::new(program);
    let own = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| gets(name, arguments)));
    command
        .env_clear()
        .envs(own)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::NotFound { "; give its whole path" } else { "" };
        SourceError::setup(format!("it cannot be started ({error}){hint}"))
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finish = async { tokio::try_join!(read(stdout), read(stderr), child.wait()) };
    match timeout(LIMIT, finish).await {
        Ok(Ok((out, _, status))) if status.success() => match out {
            Some(out) => Ok(out),
            None => Err(SourceError::setup(format!("its output is larger than {} KiB", LARGEST_OUTPUT >> 10))),
        },
        Ok(Ok((_, errors, status))) => {
            let line = errors.as_deref().and_then(first_line).map(|line| format!(": {line}")).unwrap_or_default();
            Err(SourceError::new(format!("it failed ({status}){line}")))
        }
        Ok(Err(error)) => Err(SourceError::new(format!("its output cannot be read ({error})"))),
        Err(_) => Err(SourceError::new(format!("it did not end within {} s, and was killed", LIMIT.as_secs()))),
    }
}

/// Reads a pipe to its end, so that the command never waits for a reader; `None` if that is too much to keep.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Option<Vec<u8>>> {
    let Some(mut pipe) = pipe else { return Ok(None) };
    let mut bytes = Vec::new();
    (&mut pipe).take(LARGEST_OUTPUT + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 <= LARGEST_OUTPUT {
        return Ok(Some(bytes));
    }
    drop(bytes);
    let mut rest = [0; 4096];
    while pipe.read(&mut rest).await? > 0 {}
    Ok(None)
}

/// Returns the first line that is not blank, without control characters and not too long.
fn first_line(errors: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(errors);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|letter| !letter.is_control()).take(LONGEST_LINE).collect())
}

/// Splits a line into a program and its arguments, as AWS's `credential_process` has it: quotes hold a part together,
/// and there is no shell.
pub(super) fn split(line: &str) -> Option<Vec<OsString>> {
    let mut argv = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') if !cfg!(windows) => word.get_or_insert_default().push(letters.next()?),
            (None, letter) if letter.is_whitespace() => argv.extend(word.take().map(OsString::from)),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    argv.extend(word.map(OsString::from));
    (quote.is_none() && !argv.is_empty()).then_some(argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_split_at_spaces_outside_of_quotes() {
        let words =
            |line| split(line).map(|argv| argv.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>());
        assert_eq!(words("/opt/bin/aws-creds get").unwrap(), ["/opt/bin/aws-creds", "get"]);
        assert_eq!(words(r#" "/opt/my bin/x" 'a b' "" c"#).unwrap(), ["/opt/my bin/x", "a b", "", "c"]);
        #[cfg(not(windows))]
        assert_eq!(words(r"a\ b c\\d").unwrap(), ["a b", r"c\d"]);
        for line in ["", "  ", "\"open", "a 'b"] {
            assert!(split(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_command_gets_its_own_variables_and_no_providers_key() {
        let arguments = ["-c".into(), "login --with $TOKEN_OF_MINE:$OTHER".into()];
        for (name, expected) in [
            ("PATH", true),
            ("https_proxy", true),
            ("AWS_PROFILE", true),
            ("AZURE_CLIENT_SECRET", true),
            ("GOOGLE_APPLICATION_CREDENTIALS", true),
            ("TOKEN_OF_MINE", true),
            ("OTHER", true),
            ("TOKEN_OF", false),
            ("TOKEN", false),
            ("OPENAI_API_KEY", false),
            ("ANTHROPIC_API_KEY", false),
            ("GOOGLE_API_KEY", false),
            ("AZURE_OPENAI_API_KEY", false),
            ("AWS_BEARER_TOKEN_BEDROCK", false),
            ("STEADFAST_ADMIN_KEY", false),
            ("WEBHOOK_SECRET", false),
            ("DATABASE_URL", false),
        ] {
            assert_eq!(gets(name, &arguments), expected, "{name}");
        }
    }

    #[cfg(unix)]
    mod processes {
        use super::*;

        async fn sh(script: &str) -> Result<Vec<u8>, SourceError> {
            run(&["/bin/sh".into(), "-c".into(), script.into()]).await
        }

        #[tokio::test]
        async fn a_commands_output_is_its_token() {
            assert_eq!(sh("printf token; echo hint >&2").await.unwrap(), b"token");
        }

        #[tokio::test]
        async fn a_command_sees_the_usual_variables_alone() {
            let seen = String::from_utf8(sh("env").await.unwrap()).unwrap();
            let seen: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
            // A shell sets these itself.
            let own = |name: &str| gets(name, &[]) || ["_", "SHLVL", "OLDPWD"].contains(&name);
            assert!(seen.contains(&"PATH") && seen.iter().all(|name| own(name)), "{seen:?}");
            // Cargo sets it for every test.
            assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !seen.contains(&"CARGO_MANIFEST_DIR"));
        }

        #[tokio::test]
        async fn a_failed_command_says_its_first_line_of_errors_and_no_output() {
            let error = sh("echo secret-1; echo; echo ' session ended' >&2; echo more >&2; exit 3").await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains("session ended") && text.contains('3'), "{text}");
            assert!(!text.contains("secret-1") && !text.contains("more"), "{text}");
        }

        #[tokio::test]
        async fn a_command_that_is_none_is_a_mistake_of_the_configuration() {
            let error = run(&["/nowhere/to/be/found".into()]).await.unwrap_err();
            assert!(error.is_setup && error.to_string().contains("path"), "{error}");
        }

        #[tokio::test]
        async fn too_much_output_is_read_to_its_end_and_refused() {
            let error = sh("head -c 3000000 /dev/zero").await.unwrap_err();
            assert!(error.to_string().contains("larger"), "{error}");
        }

        #[tokio::test]
        async fn a_dropped_call_kills_its_command() {
            let folder = std::env::temp_dir().join(format!("steadfast-command-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let pid = folder.join("pid");
            let script = format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 600", pid.display());
            let call = tokio::spawn(async move { sh(&script).await });
            let id = loop {
                match std::fs::read_to_string(&pid) {
                    Ok(id) => break id.trim().to_owned(),
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
            let is_there = || {
                let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
                !state.is_empty() && !state.contains(") Z ")
            };
            while is_there() {
                tokio::task::yield_now().await;
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
