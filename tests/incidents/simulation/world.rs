//! The stack of a plan at work, and what there is to steer it by.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use steadfast::{
    BoxLlmService, BulkheadHandle, CircuitBreakerHandle, CommitPoint, Events, FallbackHandle,
    layers::{
        fallback::{AllOpen, SessionPolicy, StreamBreak},
        retry::Jitter,
    },
    providers::simulated::SimulatedHandle,
};
use steadfast_handoff::{Desk, MemoryTasks};
use steadfast_stack::{Config, Format, Stack, StackBuilder, StackHandle};

use crate::simulation::{
    books::{Books, DEFAULT_LIMIT},
    by_hand,
    caller::SORRY,
    plan::{Last, Over, Plan, Tier},
    provider::Watched,
    traffic::Ask,
};

/// A stack, its providers and its books.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) books: Arc<Books>,
    pub(crate) llm: BoxLlmService,
    pub(crate) providers: Vec<Watched>,
    pub(crate) desk: Option<Desk>,
    pub(crate) handles: Handles,
}

/// The handles that steer a stack.
pub(crate) enum Handles {
    File(StackHandle),
    Hand { circuits: Vec<CircuitBreakerHandle>, bulkhead: BulkheadHandle, fallback: FallbackHandle },
}

impl World {
    pub(crate) fn new(plan: Plan, asks: &[Ask]) -> Self {
        let (plan, events) = (Arc::new(plan), Events::new());
        let books = Books::new(&plan, &events, asks);
        let providers: Vec<Watched> = (0..plan.tiers.len()).map(|tier| Watched::new(&plan, tier, &books)).collect();
        let tasks = (plan.last == Last::Handoff).then(|| MemoryTasks::new().max_tasks(100_000));
        let desk = tasks.as_ref().map(|tasks| Desk::new(tasks.clone()));
        let (llm, handles) = match plan.by_hand {
            true => by_hand::stack(&plan, &events, &providers, desk.as_ref()),
            false => from_file(&plan, &events, &providers, desk.as_ref()),
        };
        Self { plan, books, llm, providers, desk, handles }
    }

    pub(crate) fn simulated(&self, tier: usize) -> SimulatedHandle {
        self.providers[tier].simulated().handle()
    }
}

impl Handles {
    pub(crate) fn circuit(&self, plan: &Plan, tier: usize) -> CircuitBreakerHandle {
        match self {
            Self::File(handle) => handle.circuit(plan.name(tier)).expect("a tier of the file"),
            Self::Hand { circuits, .. } => circuits[tier].clone(),
        }
    }

    pub(crate) fn bulkhead(&self) -> BulkheadHandle {
        match self {
            Self::File(handle) => handle.bulkhead(),
            Self::Hand { bulkhead, .. } => bulkhead.clone(),
        }
    }

    pub(crate) fn fallback(&self) -> FallbackHandle {
        match self {
            Self::File(handle) => handle.fallback(),
            Self::Hand { fallback, .. } => fallback.clone(),
        }
    }

    /// Loads the file anew, with something changed in it. A stack that was made by hand has none.
    pub(crate) fn reload(&self, plan: &Plan, change: Change) {
        if let Self::File(handle) = self {
            handle.reload(config(plan, Some(change))).expect("a good file");
        }
    }
}

/// The difference of a file that is loaded again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    Nothing,
    /// The limits of features, one more each.
    Limits,
    /// A tier's retries.
    Retries(usize),
    /// A tier's circuit breaker, and so its circuit.
    Circuit(usize),
}

fn from_file(
    plan: &Arc<Plan>,
    events: &Events,
    providers: &[Watched],
    desk: Option<&Desk>,
) -> (BoxLlmService, Handles) {
    let builder = Stack::builder().events(events.clone()).seed(plan.seed);
    let mut builder: StackBuilder =
        (0..providers.len()).fold(builder, |builder, tier| builder.leaf(plan.name(tier), providers[tier].clone()));
    if let Some(desk) = desk {
        builder = builder.leaf("last", by_hand::people(desk));
    }
    let stack = builder.build(config(plan, None)).expect("a good file");
    (stack.service(), Handles::File(stack.handle()))
}

fn config(plan: &Plan, change: Option<Change>) -> Config {
    let file = file(plan, change);
    Config::from_str(&file, Format::Yaml).unwrap_or_else(|error| panic!("{error}\n{file}"))
}

/// The plan as a configuration file.
fn file(plan: &Plan, change: Option<Change>) -> String {
    let mut file = format!("timeout: {}\n", ms(plan.total));
    let on_break = match plan.on_break {
        StreamBreak::Restart => "restart",
        StreamBreak::Buffer => "buffer",
        _ => "fail",
    };
    let commit = match plan.commit {
        CommitPoint::Complete => "complete",
        CommitPoint::FirstText => "first_text",
        _ => "first_token",
    };
    let session = match plan.session {
        SessionPolicy::Pin => "pin",
        SessionPolicy::Sticky => "sticky",
        _ => "free",
    };
    let all_open = match plan.all_open {
        AllOpen::Wait(longest) => format!("{{ wait: {} }}", ms(longest)),
        AllOpen::Queue(longest) => format!("{{ queue: {} }}", ms(longest)),
        _ => "fail".to_owned(),
    };
    let steps: Vec<String> =
        plan.ramp.iter().map(|(percent, lasts)| format!("{{ percent: {percent}, lasts: {} }}", ms(*lasts))).collect();
    let _ = write!(
        file,
        "retry: {{ budget: {} }}\nstream: {{ on_break: {on_break}, commit: {commit} }}\nfallback:\n  session: {session}\n  \
         all_open: {all_open}\n  keep_back: {}\n  min_useful: {}\n  gradually: [{}]\ndefault_feature: {{ concurrency: \
         {DEFAULT_LIMIT} }}\nfeatures:\n",
        plan.budget_ratio,
        ms(plan.keep_back),
        ms(plan.min_useful),
        steps.join(", "),
    );
    for feature in &plan.features {
        let more = usize::from(change == Some(Change::Limits));
        let (concurrency, queue, wait) = (feature.concurrency + more, feature.queue, ms(feature.max_wait));
        let _ = write!(file, "  {}: {{ concurrency: {concurrency}, queue: {queue}, max_wait: {wait}", feature.name);
        if let Some(chain) = &feature.chain {
            let names: Vec<&str> = chain.iter().map(|tier| plan.name(*tier)).collect();
            let _ = write!(file, ", tiers: [{}]", names.join(", "));
        }
        file.push_str(" }\n");
    }
    file.push_str("tiers:\n");
    for (place, tier) in plan.tiers.iter().enumerate() {
        tier_block(&mut file, tier, change == Some(Change::Retries(place)), change == Some(Change::Circuit(place)));
    }
    match plan.last {
        Last::Nothing => {}
        Last::Canned => {
            let _ = writeln!(file, "  - {{ name: last, provider: canned, text: {SORRY:?} }}");
        }
        // Its leaf is put in its place; a file would need a store on a disk for one of its own.
        Last::Handoff => {
            file.push_str("  - { name: last, provider: canned, text: people, retry: { max_attempts: 1 } }\n")
        }
    }
    file
}

fn tier_block(file: &mut String, tier: &Tier, retries: bool, circuit: bool) {
    let breaker = &tier.breaker;
    let first_token = tier.first_token.map(|limit| format!(", first_token: {}", ms(limit))).unwrap_or_default();
    let jitter = match tier.jitter {
        Jitter::Equal => "equal",
        Jitter::Decorrelated => "decorrelated",
        Jitter::None => "none",
        _ => "full",
    };
    let over = |over: Over| match over {
        Over::Calls(calls) => format!("calls: {calls}"),
        Over::Time(span) => format!("span: {}", ms(span)),
    };
    let mut rules = String::new();
    if let Some((share, window)) = breaker.failure_rate {
        let _ = write!(rules, ", failure_rate: {{ share: {share}, {} }}", over(window));
    }
    if let Some((after, share, window)) = breaker.slow {
        let _ = write!(rules, ", slow_calls: {{ after: {}, share: {share}, {} }}", ms(after), over(window));
    }
    let _ = write!(
        file,
        "  - name: {}\n    provider: simulated\n    last_resort: {}\n    level: {}\n    timeout: {{ attempt: {}{first_token}, idle: {}, \
         progress: {}, progress_ceiling: {} }}\n    retry: {{ max_attempts: {}, max_delay: {}, jitter: {jitter}, \
         retry_timeouts: {} }}\n    circuit_breaker: {{ consecutive_failures: {}, cooldown: {{ first: {}, factor: {}, \
         longest: {} }}, probes: {}, probe_successes: {}, latch: {}, max_throttle: {}, \
         second_opinion_after: {}, confirm: false{rules} }}\n",
        tier.name,
        tier.last_resort,
        tier.level,
        ms(tier.timeout),
        ms(tier.idle),
        ms(tier.progress),
        ms(tier.ceiling),
        if retries { 1 } else { tier.max_attempts },
        ms(tier.max_delay),
        tier.retry_timeouts,
        breaker.consecutive + u32::from(circuit),
        ms(breaker.cooldown),
        breaker.growth,
        ms(breaker.longest),
        breaker.probes,
        breaker.successes,
        ms(breaker.latch),
        ms(breaker.max_throttle),
        breaker.second_opinion_after,
    );
}

fn ms(span: Duration) -> String {
    format!("{}ms", span.as_millis())
}
