//! The files in `packaging/` fit the program: its command lines, its configuration, its probes and its times.
//!
//! Tools that know more of a format (hadolint, systemd-analyze, groff, mandoc) are asked where they are installed.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::common::{Folder, Ran, STEADFAST, serve::Serve, steadfast};

/// The time for connections to send their last bytes after the grace.
const LAST_BYTES: u64 = 5;

fn file(path: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(path);
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

fn kubernetes(name: &str) -> Value {
    serde_saphyr::from_str(&file(&format!("kubernetes/{name}.yaml")).1).unwrap()
}

/// The program takes this command line.
fn takes(arguments: &[&str]) {
    let ran = steadfast(arguments.iter().copied().chain(["--help"]), &[]);
    assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.err);
}

/// A tool's words if it finds something, `None` where it is not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output().ok()?;
    let words = [output.stdout, output.stderr].map(|words| String::from_utf8_lossy(&words).into_owned()).concat();
    Some((output.status.success(), words))
}

fn health(url: &str) -> Ran {
    steadfast(["health", "--timeout", "1", "--url", url], &[])
}

#[test]
fn health_is_the_exit_code_of_a_gateway_that_is_ready() {
    let served = Serve::simulated().start();
    let url = served.url() + "/readyz";
    let ran = health(&url);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
    assert_eq!(steadfast(["health"], &[("STEADFAST_HEALTH_URL", &url)]).code, Some(0));
    let unknown = health(&(served.url() + "/nothing"));
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("status 404"), "{}", unknown.err);
    drop(served);
    assert_eq!(health(&url).code, Some(1), "nobody is there");
}

#[test]
fn health_fails_for_a_stopping_a_silent_or_a_foreign_server() {
    let answers = [
        Some("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\nstopping\n"),
        Some("SSH-2.0-OpenSSH_9.2\r\n"),
        None,
    ];
    for (answer, told) in answers.into_iter().zip(["status 503", "does not speak HTTP", "no answer in time"]) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).unwrap();
            }
            // Until the other side has gone.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let ran = health(&url);
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains(told), "{}", ran.err);
        server.join().unwrap();
    }
    assert_eq!(health("https://127.0.0.1:1/readyz").code, Some(2));
    assert_eq!(health("not a url").code, Some(2));
}

#[test]
fn the_unit_starts_what_is_there_and_waits_longer_than_streams_may_take() {
    let (_, unit) = file("systemd/steadfast.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key}"))
    };
    let start: Vec<&str> = value("ExecStart").split(' ').skip(1).collect();
    takes(&start);
    let grace: u64 = start[start.iter().position(|word| *word == "--grace").unwrap() + 1].parse().unwrap();
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() > grace + LAST_BYTES);
    for (key, right) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("Restart", "on-failure"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("CapabilityBoundingSet", ""),
    ] {
        assert_eq!(value(key), right);
    }
    assert!(value("LimitNOFILE").parse::<u32>().unwrap() >= 2 * 20_000, "a caller and its provider for each place");

    verified("unit", &[("steadfast.service", &unit)]);
}

/// The words behind `steadfast` in the first line with such a command.
fn command<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before}"));
    let line = rest.lines().next().unwrap();
    line.split(" 2>").next().unwrap().split(' ').collect()
}

#[test]
fn a_persons_own_services_start_and_stop_the_gateway_as_the_systems_does() {
    let (_, unit) = file("systemd/user/steadfast.service");
    let (launchd, plist) = file("launchd/steadfast.plist");
    let (homebrew, formula) = file("homebrew/steadfast.rb");
    for start in [
        command(&unit, "ExecStart=%h/.local/bin/steadfast "),
        command(&plist, "exec steadfast "),
        command(&formula, "exec #{opt_bin}/steadfast "),
    ] {
        takes(&start);
        assert_eq!((start[0], start[1], start[3..].join(" ")), ("serve", "--config", "--grace 30".to_owned()));
    }
    let number = |text: &str| -> u64 {
        let digits = text.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        digits.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    assert!(number(unit.split_once("TimeoutStopSec=").unwrap().1) > 30 + LAST_BYTES);
    assert!(number(plist.split_once("<key>ExitTimeOut</key>").unwrap().1) > 30 + LAST_BYTES);
    assert!(unit.contains("RestartPreventExitStatus=2\n"), "a wrong configuration is exit code 2");

    verified("user", &[("steadfast.service", &unit.replace("%h/.local/bin/steadfast", "/usr/local/bin/steadfast"))]);
    for (name, arguments, path) in [("plutil", "-lint", launchd), ("ruby", "-c", homebrew)] {
        if let Some((good, words)) = tool(name, &[arguments, path.to_str().unwrap()]) {
            assert!(good, "{words}");
        }
    }
    let (flake, _) = file("nix/flake.nix");
    if let Some((good, words)) = tool("nix-instantiate", &["--parse", flake.to_str().unwrap()]) {
        assert!(good, "{words}");
    }
}

#[test]
fn an_installed_configuration_serves_simulated_models_and_its_example_is_a_right_one() {
    let (path, text) = file("etc/steadfast.yaml");
    let ran = steadfast(["check", "--offline", path.to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("1 tiers, no mistake found"), "{}", ran.out);

    // The commented tiers in place of the simulated one.
    let (before, rest) = text.split_once("# tiers:\n").unwrap();
    let (example, rest) = rest.split_once("tiers:\n").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let own = format!("{before}tiers:\n{}\n{after}", example.replace("#   -", "  -"));
    let folder = Folder::new("etc");
    let ran = steadfast(["check", "--offline", folder.file("steadfast.yaml", &own).to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("2 tiers, no mistake found"), "{}", ran.out);

    let (_, environment) = file("etc/environment");
    assert!(environment.lines().all(|line| line.starts_with('#')), "nothing is set");
}

/// systemd's own judgement of these units, if it is there.
fn verified(name: &str, units: &[(&str, &str)]) {
    let folder = Folder::new(name);
    let paths: Vec<PathBuf> = units
        .iter()
        .map(|(name, unit)| {
            // The manual is not installed here, nor is the program where it belongs.
            let here = unit.replace("/usr/local/bin/steadfast", STEADFAST);
            let here: Vec<&str> = here.lines().filter(|line| !line.starts_with("Documentation=")).collect();
            folder.file(name, &here.join("\n"))
        })
        .collect();
    let arguments: Vec<&str> = ["verify"].into_iter().chain(paths.iter().map(|path| path.to_str().unwrap())).collect();
    if let Some((good, words)) = tool("systemd-analyze", &arguments) {
        assert!(good && words.is_empty(), "{words}");
    }
}

#[test]
fn a_schedule_drills_with_command_lines_that_are_taken_and_no_right_more_than_the_gateway() {
    let units = ["steadfast-drill.service", "steadfast-drill.timer"].map(|name| file(&format!("systemd/{name}")).1);
    let [service, timer] = &units;
    let value = |key: &str| service.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    let start: Vec<&str> = value("ExecStart").split(' ').skip(1).collect();
    takes(&start);
    assert_eq!(start[..2], ["drill", "--live"]);
    let limit = start[start.iter().position(|word| *word == "--live-limit").unwrap() + 1];
    let minutes: u64 = limit.strip_suffix('m').unwrap().parse().unwrap();
    assert!(
        value("TimeoutStartSec").parse::<u64>().unwrap() >= 2 * 60 * minutes,
        "it is not ended before its own limit"
    );
    assert_eq!(value("Type"), "oneshot");
    // The drill is confined as the gateway is.
    let (_, gateway) = file("systemd/steadfast.service");
    let confined = |unit: &str| {
        let from = unit.find("DynamicUser=").unwrap();
        let block: Vec<String> = unit[from..].lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect();
        block
    };
    assert_eq!(confined(service), confined(&gateway));
    assert!(timer.contains("WantedBy=timers.target"));
    if let Some(when) = timer.lines().find_map(|line| line.strip_prefix("OnCalendar="))
        && let Some((good, words)) = tool("systemd-analyze", &["calendar", when])
    {
        assert!(good, "{words}");
    }
    verified("drill", &[("steadfast-drill.service", service), ("steadfast-drill.timer", timer)]);

    let (_, readme) = file("README.md");
    let cron = readme.split("```cron\n").nth(1).unwrap().lines().next().unwrap();
    let command = cron.split("$(steadfast ").nth(1).unwrap().split(" 2>&1)").next().unwrap();
    takes(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(cron.split_whitespace().take(5).count(), 5);
}

#[test]
fn the_image_is_pinned_static_of_no_user_and_has_no_secret() {
    let (path, text) = file("docker/Dockerfile");
    let text = text.replace("\\\n", " ");
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let all = |name: &str| lines.iter().filter(|line| line.0 == name).map(|line| line.1).collect::<Vec<_>>();

    let from = all("FROM");
    assert!(from[0].starts_with("rust:1.") && from[0].contains("alpine3."), "{from:?}");
    assert_eq!(from[1..], ["scratch"]);
    let (user, group) = all("USER")[0].split_once(':').unwrap();
    assert!(
        user.parse::<u32>().unwrap() >= 1000 && group.parse::<u32>().unwrap() >= 1000,
        "numbers, so that runAsNonRoot holds"
    );
    assert!(all("ADD").is_empty() && all("ENV").is_empty() && all("ARG").is_empty());
    assert!(all("RUN").iter().any(|run| run.contains("packaging/build")));
    assert!(all("COPY").iter().all(|copied| !copied.starts_with(". ")), "a whole folder may have anything in it");
    // Without a shell, lines are lists; and the program takes them.
    let list = |line: &str| serde_json::from_str::<Vec<String>>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(list(all("ENTRYPOINT")[0]), ["/steadfast"]);
    takes(&list(all("CMD")[0]).iter().map(String::as_str).collect::<Vec<_>>());
    let healthcheck = list(all("HEALTHCHECK")[0].split_once("CMD ").unwrap().1);
    assert_eq!(healthcheck, ["/steadfast", "health"]);
    // The port that it listens on is the one that is asked.
    assert!(all("CMD")[0].contains("0.0.0.0:8080") && all("EXPOSE") == ["8080"]);

    let (_, ignored) = file("docker/Dockerfile.dockerignore");
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"));
    for copied in all("COPY").iter().filter(|copied| !copied.starts_with("--from")) {
        let mut names: Vec<&str> = copied.split(' ').collect();
        names.pop();
        assert!(names.iter().all(|name| kept.contains(name)), "{copied}: not all of it is let in");
    }
    if let Some((good, words)) = tool("hadolint", &[path.to_str().unwrap()]) {
        assert!(good, "{words}");
    }
}

/// A folder whose compiler has an llvm-profdata, which says its arguments.
fn with_profdata(name: &str) -> Folder {
    let folder = Folder::new(name);
    fs::create_dir_all(folder.path("bin")).unwrap();
    symlink("/bin/echo", folder.path("bin/llvm-profdata")).unwrap();
    folder
}

/// Runs `packaging/build` with a compiler of its own.
fn run_build(folder: &Folder, cargo: &str, target: &[&str]) -> Output {
    let fakes = format!(
        r#"
        rustc() {{
            case "$*" in
            -vV) printf 'host: here-linux-gnu\nLLVM version: 22.1.2\n' ;;
            "--print target-libdir") echo "$CARGO_TARGET_DIR/lib" ;;
            esac
        }}
        cargo() {{
            echo "${{RUSTFLAGS-}}|$*" >>"$CARGO_TARGET_DIR/runs"
            {cargo}
        }}
        python3() {{ echo "python3 $*" >&2; }}
        . "$0"
        "#
    );
    fs::create_dir_all(folder.path("lib")).unwrap();
    // Nothing else is on the path.
    for name in ["dirname", "mkdir", "rm", "sed"] {
        let from = ["/usr/bin", "/bin"].map(|bin| Path::new(bin).join(name)).into_iter().find(|path| path.exists());
        symlink(from.unwrap(), folder.path(name)).unwrap();
    }
    Command::new("/bin/sh")
        .args(["-c", &fakes, file("build").0.to_str().unwrap()])
        .args(target)
        .args(["--config", "profile.dist.strip=true"])
        .env("CARGO_TARGET_DIR", folder.path(""))
        .env("PATH", folder.path(""))
        .env("SDKROOT", folder.path("sdk"))
        .env_remove("RUSTFLAGS")
        .env_remove("TARGET_CC")
        .output()
        .unwrap()
}

/// Runs `packaging/build`. Returns its output, its words and cargo's runs: flags, arguments.
fn build(folder: &Folder, cargo: &str, target: &[&str]) -> (String, String, Vec<(String, String)>) {
    let output = run_build(folder, cargo, target);
    let [out, err] = [output.stdout, output.stderr].map(|words| String::from_utf8(words).unwrap());
    assert!(output.status.success(), "{err}");
    let runs = fs::read_to_string(folder.path("runs")).unwrap();
    let runs = runs.lines().map(|run| run.split_once('|').unwrap()).map(|(f, a)| (f.to_owned(), a.to_owned()));
    (out, err, runs.collect())
}

/// The arguments of each of cargo's builds.
const BUILT: &str =
    "build --profile dist --locked --package steadfast-cli --target here-linux-gnu --config profile.dist.strip=true";

#[test]
fn the_build_learns_from_a_load_in_the_order_of_the_compilers_manual() {
    let folder = with_profdata("build");
    let (out, err, runs) = build(&folder, ":", &[]);
    let [counted, asked, built] = &runs[..] else { panic!("{runs:?}") };
    let profile = counted.0.strip_prefix("-Cprofile-generate=").unwrap();
    assert_eq!(counted.1, BUILT);
    assert_eq!(asked.1, "run --release --locked --manifest-path benches/gateway/Cargo.toml -- train");
    assert!(err.contains(&format!("merge --output={profile}/merged {profile}/")), "{err}");
    assert_eq!(*built, (format!("-Cprofile-use={profile}/merged"), BUILT.to_owned()));
    assert_eq!(Path::new(out.trim_end()), folder.path("here-linux-gnu/dist/steadfast"));
}

#[test]
fn the_build_goes_on_without_a_profile_and_says_so() {
    let folder = Folder::new("build-bare");
    let (_, err, runs) = build(&folder, ":", &[]);
    assert_eq!(runs, [(String::new(), BUILT.to_owned())]);
    assert!(err.contains("rustup component add llvm-tools") && err.contains("without a profile"), "{err}");

    let folder = with_profdata("build-unasked");
    let (_, err, runs) = build(&folder, r#"[ "$1" != run ]"#, &[]);
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[2], (String::new(), BUILT.to_owned()));
    assert!(err.contains("without a profile"), "{err}");
}

#[test]
fn the_build_of_another_target_learns_where_its_program_runs() {
    for (target, learns) in [("here-linux-musl", true), ("there-linux-gnu", false), ("here-system", false)] {
        let folder = with_profdata("build-target");
        let (out, err, runs) = build(&folder, ":", &["--target", target]);
        assert_eq!(Path::new(out.trim_end()), folder.path(target).join("dist/steadfast"));
        let built = BUILT.replace("here-linux-gnu", target);
        assert_eq!(runs.iter().map(|run| &run.1).filter(|run| **run == built).count(), if learns { 2 } else { 1 });
        assert_eq!(err.contains("without a profile"), !learns, "{err}");
    }
}

#[test]
fn the_build_for_another_system_has_that_systems_c_compiler_and_linker() {
    let says = r#"echo "$TARGET_CC for $STEADFAST_ZIG_TARGET" >&2"#;
    for (target, zig, linker) in [
        ("aarch64-unknown-linux-musl", "aarch64-linux-musl", "rust-lld"),
        ("x86_64-apple-darwin", "x86_64-macos", "packaging/cc"),
    ] {
        let folder = Folder::new("build-foreign");
        fs::create_dir_all(folder.path("sdk/System/Library/Frameworks")).unwrap();
        let (_, err, runs) = build(&folder, says, &["--target", target]);
        assert!(err.contains("python3 -m pip install") && err.contains(" ziglang=="), "{err}");
        assert!(err.contains(&format!("packaging/cc for {zig}")), "{err}");
        assert!(runs[0].0.starts_with("-Clinker=") && runs[0].0.ends_with(linker), "{runs:?}");
    }
    for (target, missing) in [
        ("x86_64-pc-windows-gnu", "apt-get install gcc-mingw-w64-x86-64"),
        ("aarch64-apple-darwin", "SDKROOT names no SDK"),
    ] {
        let refused = run_build(&Folder::new("build-refused"), ":", &["--target", target]);
        assert!(!refused.status.success());
        let words = String::from_utf8(refused.stderr).unwrap();
        assert!(words.contains(missing), "{words}");
    }
}

#[test]
fn zig_gets_its_own_name_of_the_target_and_every_other_argument() {
    let folder = Folder::new("cc");
    fs::create_dir_all(folder.path("")).unwrap();
    symlink("/bin/echo", folder.path("python3")).unwrap();
    let output = Command::new("/bin/sh")
        .arg(file("cc").0)
        .args(["-O3", "--target=aarch64-unknown-linux-musl", "-c", "a file.c"])
        .env("PATH", folder.path(""))
        .env("STEADFAST_ZIG_TARGET", "aarch64-linux-musl")
        .env_remove("SDKROOT")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "-m ziglang cc -target aarch64-linux-musl -O3 -c a file.c\n");
}

#[test]
fn the_deployments_command_line_times_and_names_fit() {
    let deployment = kubernetes("deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let arguments: Vec<&str> =
        container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    takes(&arguments);
    let value = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name)).unwrap();

    let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let grace: u64 = value("--grace=").parse().unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > sleep + grace + LAST_BYTES);
    // A mounted file is where the program looks for it.
    for (argument, source) in [("--config=", "config"), ("--keys=", "callers")] {
        let mount = container["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["name"] == source).unwrap();
        let folder = mount["mountPath"].as_str().unwrap();
        assert!(value(argument).strip_prefix(folder).unwrap().starts_with('/'), "{argument}");
        assert!(mount.get("subPath").is_none(), "it would never change");
    }
    let config = value("--config=").rsplit('/').next().unwrap();
    assert!(kubernetes("configmap")["data"][config].is_string());
    assert_eq!(pod["volumes"][0]["configMap"]["name"], kubernetes("configmap")["metadata"]["name"]);

    let port = container["ports"][0]["containerPort"].as_u64().unwrap();
    assert!(value("--listen=").ends_with(&format!(":{port}")));
    assert_eq!(kubernetes("service")["spec"]["ports"][0]["targetPort"], container["ports"][0]["name"]);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&kubernetes("service")["spec"]["selector"], labels);
    assert_eq!(&kubernetes("poddisruptionbudget")["spec"]["selector"]["matchLabels"], labels);
    assert!(
        deployment["spec"]["replicas"].as_u64() > kubernetes("poddisruptionbudget")["spec"]["minAvailable"].as_u64()
    );
    for listed in kubernetes("kustomization")["resources"].as_array().unwrap() {
        assert!(!file(&format!("kubernetes/{}", listed.as_str().unwrap())).1.is_empty());
    }
    // The image to replace is the deployment's.
    let image = &kubernetes("kustomization")["images"][0];
    let named = format!("{}:{}", image["name"].as_str().unwrap(), image["newTag"].as_str().unwrap());
    assert_eq!(container["image"], named);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(!container["image"].as_str().unwrap().ends_with(":latest"));
}

#[test]
fn the_deployments_probes_are_paths_that_a_gateway_answers() {
    let served = Serve::simulated().start();
    let container = kubernetes("deployment")["spec"]["template"]["spec"]["containers"][0].clone();
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let asked = container[probe]["httpGet"]["path"].as_str().unwrap();
        // A gateway that stops is not ready, and lives: a liveness probe of /readyz would kill it in the middle of
        // streams.
        assert_eq!(asked, path);
        assert_eq!(health(&(served.url() + asked)).code, Some(0), "{probe}");
    }
}

#[test]
fn the_configuration_in_the_cluster_is_a_right_one() {
    let folder = Folder::new("configmap");
    let text = kubernetes("configmap")["data"]["steadfast.yaml"].as_str().unwrap().to_owned();
    let ran = steadfast(["check", "--offline", folder.file("steadfast.yaml", &text).to_str().unwrap()], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("3 tiers, no mistake found") && ran.out.contains("model claude-haiku-*: haiku -> backup"));
}

#[test]
fn each_command_has_a_page_of_the_manual() {
    let folder = Folder::new("manual");
    let out = folder.path("man1");
    assert_eq!(steadfast(["man", "--out", out.to_str().unwrap()], &[]).code, Some(0));
    let help = steadfast(["--help"], &[]).out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.filter(|name| *name != "help").map(|name| format!("-{name}")).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names.iter().map(String::as_str).chain(["", "-config-schema"]) {
        let page = out.join(format!("steadfast{name}.1"));
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.contains(&format!(".TH steadfast{name} 1 ")), "{text}");
        let page = page.to_str().unwrap();
        if let Some((good, words)) = tool("groff", &["-man", "-Tutf8", "-ww", "-z", page]) {
            assert!(good && words.is_empty(), "{page}: {words}");
        }
        if let Some((good, words)) = tool("mandoc", &["-T", "lint", "-W", "error", page]) {
            assert!(good, "{page}: {words}");
        }
    }
    let whole = steadfast(["man"], &[]).out;
    assert!(whole.contains("steadfast\\-serve(1)"), "{whole}");
    // A folder that cannot be made is said plainly.
    let refused = steadfast(["man", "--out", "/dev/null/man1"], &[]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("cannot write into /dev/null/man1"), "{}", refused.err);
}
