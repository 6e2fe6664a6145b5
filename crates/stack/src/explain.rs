//! Explains in words how a configuration handles each kind of failure.

use std::{fmt::Write, time::Duration};

use super::{
    Config, Feature, FeatureCache, HedgeSettings, Provider, Span, Tier,
    classifier::{classifier, samples, status_notes},
    hedge::HedgePlan,
    schema::{OtherPaths, Retry as Retries},
};
use steadfast::{
    CacheLayer, Classifier, ErrorKind, LlmError, MirrorLayer, RetryWithJitterLayer,
    classify::{Failover, Retry},
};

impl Config {
    /// Explains for each tier which kinds of failure are retried there and where each goes next. The text comes from
    /// the table that the layers consult ([`classifier`]) and assumes a request that follows the file's tier order.
    ///
    /// ```
    /// use steadfast_stack::{Config, Format};
    ///
    /// let tiers = "tiers: [{ name: main, provider: simulated }, { name: spare, provider: simulated }]";
    /// let text = Config::from_str(tiers, Format::Yaml).unwrap().explain();
    /// assert!(text.contains("-> spare, after a retry if it names a moment\n      rate_limited, overloaded"));
    /// assert!(text.contains("retried once, then fails: this is the last tier\n      rate_limited, overloaded"));
    /// ```
    pub fn explain(&self) -> String {
        let table = classifier(self);
        let mut text = String::new();
        for (at, tier) in self.tiers.iter().enumerate() {
            self.explain_tier(at, tier, &table, &mut text);
        }
        for sentence in self.model_name_notes() {
            let _ = writeln!(text, "{sentence}");
        }
        for sentence in status_notes(self) {
            let _ = writeln!(text, "statuses: {sentence}");
        }
        self.explain_chains(&mut text);
        self.explain_places(&mut text);
        self.explain_cache(&mut text);
        self.explain_mirror(&mut text);
        self.explain_lane(&mut text);
        text
    }

    /// Warns of a lane that opens the provider's whole account.
    fn explain_lane(&self, text: &mut String) {
        if self.lane.as_ref().is_some_and(|lane| lane.other == OtherPaths::Pass) {
            text.push_str(
                "lane: `other: pass` opens every path of the provider's account, those that make keys among them; of \
                 callers with keys only those with `pass_through: true` may ask. A list, such as `other: [/v1/ocr]`, \
                 opens its paths alone\n",
            );
        }
    }

    /// Explains which kinds of failure are retried on a tier, and where each goes next.
    fn explain_tier(&self, at: usize, tier: &Tier, table: &Classifier, text: &mut String) {
        let model = tier.model.as_deref().map(|model| format!(" {model}")).unwrap_or_default();
        let _ = write!(text, "{} ({}{model})", tier.name, tier.provider.name());
        if let Some(list) = &tier.deployments {
            let _ = write!(text, " over {} deployments", list.len());
        }
        match tier.provider {
            Provider::Canned => {
                text.push_str(": always answers\n");
                return;
            }
            Provider::Handoff => {
                text.push_str(": hands the request to people\n");
                return;
            }
            Provider::Cached => {
                let similar = if tier.similar.is_some() { " or something like it" } else { "" };
                let next = self
                    .tiers
                    .get(at + 1)
                    .map_or_else(|| "fails: this is the last tier".to_owned(), |next| format!("-> {}", next.name));
                let _ = writeln!(text, ": answers what was answered to the same{similar}, else {next}");
                return;
            }
            _ => {}
        }
        match self.attempts(tier) {
            1 => text.push_str(": 1 attempt\n"),
            attempts => _ = writeln!(text, ": at most {attempts} attempts"),
        }
        if let Some(HedgePlan { settings: HedgeSettings { after: Some(after), extra: Some(extra), .. }, to }) =
            self.hedge_plan(at)
        {
            let to = match to {
                to if to == at => "once more".to_owned(),
                to => format!("-> {}", self.tiers[to].name),
            };
            let percent = percent(extra.0);
            let _ = writeln!(text, "  late after {after}: also {to}, for at most {percent} % of the calls");
        }
        for (fate, failures) in self.fates(at, table) {
            let _ = writeln!(text, "  {fate}\n      {}", wrapped(&failures));
        }
    }

    /// Explains the chains of features, models and routes.
    fn explain_chains(&self, text: &mut String) {
        for (name, feature) in &self.features {
            if feature.tiers.is_none() && feature.worst_level.is_none() {
                continue;
            }
            let worst = feature.worst_level.unwrap_or(u8::MAX);
            let all = || self.tiers.iter().map(|tier| &tier.name).collect();
            let chain: Vec<&String> = feature.tiers.as_ref().map_or_else(all, |chain| chain.iter().collect());
            let good =
                |name: &&&String| self.tiers.iter().any(|tier| tier.name == ***name && tier.service_level() <= worst);
            let chain: Vec<&str> = chain.iter().filter(good).map(|name| name.as_str()).collect();
            let only = if chain.len() == 1 { " only" } else { "" };
            let _ = writeln!(text, "feature {name}: {}{only}", chain.join(" -> "));
        }
        for (name, model) in &self.models {
            let only = if model.tiers.len() == 1 { " only" } else { "" };
            let _ = writeln!(text, "model {name}: {}{only}", model.tiers.join(" -> "));
        }
        for route in &self.routes {
            let chain = route.tiers.join(" -> ");
            let _ = writeln!(text, "route {} ({}): {chain}, then as without it", route.name, route.when.in_words());
        }
    }

    /// Explains how many requests of each feature may be under way, if the file limits any.
    fn explain_places(&self, text: &mut String) {
        let named = self.features.iter().filter_map(|(name, feature)| Some((name.as_str(), feature.concurrency?)));
        let others = self.default_feature.as_ref().and_then(|others| others.concurrency);
        let limited = named.chain(others.map(|places| ("others", places)));
        let limited: Vec<String> = limited.map(|(name, places)| format!("{name} {places}")).collect();
        if limited.is_empty() {
            return;
        }
        let _ = write!(text, "requests at once: {}", limited.join(", "));
        let is_open = |feature: &Feature| feature.concurrency.is_none();
        if others.is_none() || self.features.values().any(is_open) {
            let _ = write!(text, "; else as many as connections, {}", self.gateway.most_connections());
        }
        text.push('\n');
    }

    /// Explains how long answers are kept, and for which features.
    fn explain_cache(&self, text: &mut String) {
        let Some(cache) = &self.cache else { return };
        let time = |said: Option<Span>, default: Duration| said.map_or(default, |span| span.0);
        let (ttl, stale_for) = (time(cache.ttl, CacheLayer::TTL), time(cache.stale_for, CacheLayer::STALE_FOR));
        let _ =
            write!(text, "cache: answers are given again for {ttl:?}, and {stale_for:?} longer when all tiers fail");
        let others = self.default_feature.as_ref().map(|feature| ("others", feature));
        let named = self.features.iter().map(|(name, feature)| (name.as_str(), feature));
        for (name, feature) in named.chain(others) {
            match feature.cache {
                Some(FeatureCache::On(false)) => _ = write!(text, "; {name}: never"),
                Some(FeatureCache::Ttl(Span(own))) => _ = write!(text, "; {name}: for {own:?}"),
                Some(FeatureCache::On(true)) | None => {}
            }
        }
        text.push('\n');
    }

    /// Explains which requests are mirrored, and to which candidate.
    fn explain_mirror(&self, text: &mut String) {
        let (Some(mirror), Some(tier)) = (&self.mirror, self.candidate()) else { return };
        let percent = percent(mirror.share.map_or(MirrorLayer::SHARE, |share| share.0));
        let what = if mirror.by_session { "sessions" } else { "requests" };
        let of = mirror.features.as_ref().map(|features| format!(" of {}", features.join(" and "))).unwrap_or_default();
        let model = tier.model.as_deref().map(|model| format!(" {model}")).unwrap_or_default();
        let provider = tier.provider.name();
        let _ = write!(text, "mirror: {percent} % of the {what}{of} go to {} ({provider}{model}) too", tier.name);
        if let Some(usd) = mirror.usd_per_day {
            let _ = write!(text, ", for at most ${usd} a day");
        }
        text.push_str("; callers see nothing of it\n");
    }

    /// Returns how many attempts a tier makes for a request.
    ///
    /// Where the file says nothing of retries, a tier behind another model's makes one less than it would alone: what
    /// fails twice there after it has failed elsewhere seldom succeeds a moment later, and three failures of one
    /// request are most of what opens a circuit.
    pub(super) fn attempts(&self, tier: &Tier) -> u16 {
        let own = tier.retry.and_then(|retry| retry.max_attempts);
        let of_lane = self.tiers.iter().all(|other| other.name != tier.name);
        let chain = self.tiers.iter().filter(|_| !of_lane);
        let mut before = chain.take_while(|other| other.name != tier.name);
        let usual = match !self.names_retries(tier) && before.any(|other| other.provider.is_model()) {
            true => RetryWithJitterLayer::MAX_ATTEMPTS - 1,
            false => RetryWithJitterLayer::MAX_ATTEMPTS,
        };
        own.or(self.retry.max_attempts).unwrap_or(usual)
    }

    /// Returns whether the file names a number of attempts or a budget for a tier: then retries are wanted there. Else
    /// another model is asked first.
    pub(super) fn names_retries(&self, tier: &Tier) -> bool {
        let named = |retry: Retries| retry.max_attempts.is_some() || retry.budget.is_some();
        tier.retry.is_some_and(named) || named(self.retry)
    }

    /// Returns whether a failure at this place goes on to another model rather than being retried.
    fn leaves_to_others(&self, at: usize) -> bool {
        !self.names_retries(&self.tiers[at]) && self.tiers[at + 1..].iter().any(|tier| tier.provider.is_model())
    }

    /// Groups the failures at a tier by their handling.
    fn fates(&self, at: usize, table: &Classifier) -> Vec<(String, Vec<String>)> {
        let mut fates: Vec<(String, Vec<String>)> = Vec::new();
        for kind in ErrorKind::ALL {
            let met: Vec<(Option<u16>, String)> = samples(*kind, self)
                .into_iter()
                .map(|(status, failure)| (status, self.fate(at, table, &failure)))
                .collect();
            let alike = met.windows(2).all(|two| two[0].1 == two[1].1);
            for (status, fate) in met.into_iter().take(if alike { 1 } else { usize::MAX }) {
                let failure = match status {
                    Some(status) => format!("{kind} (HTTP {status})"),
                    None => kind.to_string(),
                };
                match fates.iter_mut().find(|(known, _)| *known == fate) {
                    Some((_, failures)) => failures.push(failure),
                    None => fates.push((fate, vec![failure])),
                }
            }
        }
        fates
    }

    fn fate(&self, at: usize, table: &Classifier, failure: &LlmError) -> String {
        let tier = &self.tiers[at];
        let class = table.classify(failure);
        let last = at + 1 == self.tiers.len();
        let timeouts = tier.retry.and_then(|retry| retry.retry_timeouts).or(self.retry.retry_timeouts) == Some(true);
        let retry = match class.retry {
            Retry::OnceIfLast if timeouts => Retry::Yes,
            Retry::OnceIfLast if last => Retry::Once,
            Retry::OnceIfLast => Retry::No,
            other => other,
        };
        let next = self.next(at, class.failover, failure.kind());
        if retry != Retry::No && self.leaves_to_others(at) {
            return format!("{next}, after a retry if it names a moment");
        }
        let retries = match retry {
            Retry::Yes => self.attempts(tier).saturating_sub(1),
            Retry::Once => self.attempts(tier).saturating_sub(1).min(1),
            _ => 0,
        };
        match retries {
            0 => next,
            1 => format!("retried once, then {next}"),
            2 => format!("retried twice, then {next}"),
            n => format!("retried {n} times, then {next}"),
        }
    }

    fn next(&self, at: usize, failover: Failover, kind: ErrorKind) -> String {
        let place = |name: &String| self.tiers.iter().position(|tier| tier.name == *name);
        if let Some(route) = self.fallback.routes.get(kind.name()) {
            let next = route.iter().find(|name| place(name).is_some_and(|tier| tier > at));
            return match next {
                Some(name) => format!("-> {name} (a route)"),
                None => "fails: its route has no tier after this one".to_owned(),
            };
        }
        let window = self.tiers[at].context_window;
        let next = match failover {
            Failover::No => return "fails".to_owned(),
            Failover::IfRouted => return "fails: no route is set for it".to_owned(),
            Failover::LargerWindow => {
                let larger = |tier: &&Tier| window.zip(tier.context_window).is_some_and(|(own, other)| other > own);
                match self.tiers[at + 1..].iter().find(larger) {
                    Some(tier) => return format!("-> {} (its window is larger)", tier.name),
                    None => return "fails: no tier is known to have a larger window".to_owned(),
                }
            }
            _ => self.tiers.get(at + 1),
        };
        match (next, failover) {
            (None, _) => "fails: this is the last tier".to_owned(),
            (Some(_), Failover::AfterAnother) if at == 0 => "fails: it is not listed".to_owned(),
            (Some(tier), _) => format!("-> {}", tier.name),
        }
    }
}

/// Rounds to a ten-thousandth, because 0.07 times 100 is not exactly 7.
fn percent(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

/// Joins names into lines of a terminal's width.
fn wrapped(names: &[String]) -> String {
    let mut text = String::new();
    let mut width = 0;
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            text.push(',');
            if width + name.len() > 90 {
                text.push_str("\n      ");
                width = 0;
            } else {
                text.push(' ');
            }
        }
        text.push_str(name);
        width += name.len() + 2;
    }
    text
}
