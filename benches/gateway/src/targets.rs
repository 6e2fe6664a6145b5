//! The aims, and the check of each.

use crate::{
    contestants::{DIRECT, LITELLM, NGINX, PORTKEY, STEADFAST, TRANSLATED},
    dialect::Mode,
    load::Shape,
    measure::{CONNECTIONS, Cell, Figures, Row},
    soak::Soak,
};

/// One aim with what was measured.
#[derive(Clone, Debug)]
pub struct Target {
    pub what: String,
    pub measured: f64,
    pub aim: Aim,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub fn is_reached(&self) -> bool {
        match self.aim {
            Aim::AtLeast(aim) => self.measured >= aim,
            Aim::AtMost(aim) => self.measured <= aim,
        }
    }
}

/// Returns all that these rows have figures for, the lost first.
pub fn of(rows: &[Row], soak: Option<&Soak>) -> Vec<Target> {
    let find = |name: &str, mode: Mode, connections: usize, down: bool, fresh: bool| -> Option<Figures> {
        let cell = Cell { shape: Shape { mode, connections, fresh }, down };
        rows.iter().find(|row| row.contestant.name == name)?.median(cell).filter(|figures| figures.per_second > 0.0)
    };
    let up = |name: &str, mode, connections| find(name, mode, connections, false, false);
    let mut targets = Vec::new();
    let mut add = |what: String, measured: Option<f64>, aim: Aim| {
        if let Some(measured) = measured {
            targets.push(Target { what, measured, aim });
        }
    };
    for connections in CONNECTIONS {
        // The aims of the plain request at 16 connections are those of each step; the others are bounds.
        let strict = |mode| mode == Mode::Plain && connections == 16;
        let of_nginx = if strict(Mode::Plain) { 0.8 } else { 0.5 };
        for (rival, aim) in [(NGINX, of_nginx), (PORTKEY, 3.0), (LITELLM, 10.0)] {
            let ratio = || {
                let ours = up(STEADFAST, Mode::Plain, connections)?;
                Some(ours.per_second / up(rival, Mode::Plain, connections)?.per_second)
            };
            add(format!("requests/s / {rival}'s, plain, {connections} connections"), ratio(), Aim::AtLeast(aim));
        }
        for mode in [Mode::Plain, Mode::Stream] {
            let cpu = || Some(up(STEADFAST, mode, connections)?.cpu / up(NGINX, mode, connections)?.cpu);
            add(
                format!("CPU for each request / nginx's, {}, {connections} connections", mode.name()),
                cpu(),
                Aim::AtMost(if strict(mode) { 1.4 } else { 2.5 }),
            );
            let down = || {
                let without = find(STEADFAST, mode, connections, true, false)?;
                Some(without.per_second / up(STEADFAST, mode, connections)?.per_second)
            };
            add(
                format!("requests/s with the first provider down / up, {}, {connections} connections", mode.name()),
                down(),
                Aim::AtLeast(if strict(mode) { 0.97 } else { 0.9 }),
            );
        }
    }
    let added = || {
        let direct = up(DIRECT, Mode::Plain, 16)?.p99;
        Some((up(STEADFAST, Mode::Plain, 16)?.p99 - direct) / (up(NGINX, Mode::Plain, 16)?.p99 - direct))
    };
    add("added to the p99 / nginx's, plain, 16 connections".to_owned(), added(), Aim::AtMost(3.0));
    let kept = || {
        let fresh = find(STEADFAST, Mode::Stream, 1, false, true)?;
        Some(up(STEADFAST, Mode::Stream, 1)?.p50 / fresh.p50)
    };
    add("p50 of a stream on a connection that is kept / on a new one".to_owned(), kept(), Aim::AtMost(1.1));
    let translated = || {
        let passed = up(STEADFAST, Mode::Plain, 16)?.cpu;
        Some(up(TRANSLATED, Mode::Plain, 16)?.cpu / passed)
    };
    let what = "CPU for each translated request / one that is passed on, plain, 16 connections";
    add(what.to_owned(), translated(), Aim::AtMost(1.6));
    let own = rows.iter().find(|row| row.contestant.name == STEADFAST).map(|row| &row.trials);
    let cores = own.and_then(|trials| trials.cores);
    let by =
        if cores.is_some_and(|cores| cores.is_apart()) { "requests/s" } else { "requests for a second of CPU time" };
    add(
        format!("two cores with two workers / one with one, plain, 64 connections, by {by}"),
        cores.map(|cores| cores.scale()),
        Aim::AtLeast(1.8),
    );
    let memory = own.and_then(|trials| trials.memory);
    let rest = memory.map(|memory| memory.idle as f64 / 1024.0 / 1024.0);
    add("memory at rest, MB".to_owned(), rest, Aim::AtMost(9.0));
    add("memory at the end of the soak / after its first fifth".to_owned(), soak.map(Soak::growth), Aim::AtMost(1.05));
    // A shorter one shows how memory is filled, not how it grows.
    let long = soak.filter(|soak| soak.length() >= 3600.0);
    let megabytes = long.map(|soak| soak.slope() / 1024.0 / 1024.0);
    add("memory by which the second half of the soak grows, MB/h".to_owned(), megabytes, Aim::AtMost(1.0));
    let watched = soak.filter(|soak| soak.samples.iter().all(|sample| sample.open_files > 0));
    let files = watched.map(|soak| soak.more_open_files() as f64);
    add("files open at the end of the soak, more than in its second fifth".to_owned(), files, Aim::AtMost(0.0));
    targets.sort_by_key(Target::is_reached);
    targets
}
