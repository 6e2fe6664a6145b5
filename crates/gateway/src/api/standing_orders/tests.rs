//! Gateways over one registry, on paused time. The judge is what each gateway's own status says.

use std::sync::atomic::Ordering::Relaxed;

use steadfast_stack::{Config, Format, Stack};
use steadfast_stores::registry::{MemoryRegistry, RegistryChange};

use super::*;
use crate::tests::registry::Registry;

const CONFIG: &str = "
tiers:
  - { name: sonnet, provider: simulated, model: one }
  - { name: backup, provider: simulated, model: two, level: 2 }
  - { name: pool, provider: simulated, model: three, deployments: [{ name: west }, { name: east }] }
";

/// A gateway.
struct Replica {
    stack: Stack,
    orders: Arc<StandingOrders>,
}

impl Replica {
    async fn start(registry: &Registry, config: &str) -> Self {
        let stack = Stack::from_config(config_of(config)).unwrap();
        let orders = Arc::new(StandingOrders::new(Arc::new(registry.clone()), stack.handle()));
        orders.turn().await;
        tokio::spawn(orders.clone().follow());
        Self { stack, orders }
    }

    /// Gives an order as an operator's path does.
    async fn order(&self, order: &StandingOrder, holds: bool) {
        order.set(&self.stack.handle().acting_as("ana"), holds).unwrap();
        self.orders.give("ana", order.clone(), holds).await;
    }

    /// Returns what is set by hand, out of the gateway's own state.
    fn by_hand(&self) -> Vec<String> {
        let stack = self.stack.handle();
        let mut said = Vec::new();
        for name in ["sonnet", "backup", "pool"] {
            said.extend(stack.circuit(name).and_then(|it| it.forced()).map(|it| format!("{name} {}", it.name())));
        }
        for deployment in stack.deployments("pool") {
            said.extend(deployment.is_drained().then(|| format!("pool/{} drained", deployment.status.name)));
        }
        said.extend(stack.drained().iter().map(|name| format!("{name} drained")));
        said.extend(stack.pinned_level().map(|level| format!("level {level}")));
        said.extend(stack.pinned_features().iter().map(|(feature, level)| format!("{feature} level {level}")));
        said
    }
}

fn config_of(text: &str) -> Config {
    Config::from_str(text, Format::Yaml).unwrap()
}

/// The registry's changes, the last one first.
async fn logged(registry: &Registry) -> Vec<RegistryChange> {
    registry.history(None, None, 9).await.unwrap()
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// Every order, with what a gateway's state says of it.
fn all() -> [(StandingOrder, &'static str); 6] {
    let tier = || "sonnet".into();
    [
        (StandingOrder::Circuit { tier: tier(), force: Force::Open }, "sonnet open"),
        (StandingOrder::Circuit { tier: tier(), force: Force::Close }, "sonnet closed"),
        (StandingOrder::Drain { tier: tier() }, "sonnet drained"),
        (StandingOrder::Drain { tier: "pool/west".into() }, "pool/west drained"),
        (StandingOrder::Level { feature: None, level: 2 }, "level 2"),
        (StandingOrder::Level { feature: Some("chat".into()), level: 2 }, "chat level 2"),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_order_holds_at_all_gateways_over_restarts_until_it_is_taken_back() {
    for (order, said) in all() {
        let registry = Registry::default();
        let [one, other] = [Replica::start(&registry, CONFIG).await, Replica::start(&registry, CONFIG).await];
        one.order(&order, true).await;
        assert_eq!((one.by_hand(), one.orders.is_stored()), (vec![said.to_owned()], true));
        seconds(2).await;
        assert_eq!(other.by_hand(), [said]);
        // Both restart.
        drop((one, other));
        let [one, other] = [Replica::start(&registry, CONFIG).await, Replica::start(&registry, CONFIG).await];
        assert_eq!((one.by_hand(), other.by_hand()), (vec![said.to_owned()], vec![said.to_owned()]));
        // The log has it once, with its operator.
        let log = logged(&registry).await;
        assert_eq!((log.len(), &*log[0].actor, &*log[0].action), (1, "ana", "order"));
        other.order(&order, false).await;
        seconds(2).await;
        assert_eq!((one.by_hand(), other.by_hand()), (vec![], vec![]), "{order:?}");
        assert_eq!(Replica::start(&registry, CONFIG).await.by_hand(), [""; 0]);
        let log = logged(&registry).await;
        assert_eq!((log.len(), &*log[0].action), (2, "take back"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_holds_over_reloads_that_change_or_remove_its_tier() {
    let registry = Registry::default();
    let [one, other] = [Replica::start(&registry, CONFIG).await, Replica::start(&registry, CONFIG).await];
    for (order, _) in all() {
        one.order(&order, true).await;
    }
    let held = one.by_hand();
    assert_eq!(held.len(), 5, "of two forces the later one holds: {held:?}");
    seconds(2).await;
    let changed = CONFIG.replace("model: one", "model: other").replace("name: west }", "name: west, weight: 2 }");
    other.stack.handle().reload(config_of(&changed)).unwrap();
    seconds(2).await;
    assert_eq!(other.by_hand(), held);
    let without = CONFIG.replace("  - { name: sonnet, provider: simulated, model: one }\n", "");
    other.stack.handle().reload(config_of(&without)).unwrap();
    seconds(2).await;
    assert_eq!(
        other.by_hand(),
        held[..].iter().filter(|said| !said.starts_with("sonnet")).cloned().collect::<Vec<_>>()
    );
    other.stack.handle().reload(config_of(CONFIG)).unwrap();
    seconds(2).await;
    assert_eq!(other.by_hand(), held);
}

#[tokio::test(start_paused = true)]
async fn an_order_given_while_the_store_is_away_holds_here_and_is_written_later() {
    for (order, said) in all() {
        for is_silent in [false, true] {
            let registry = Registry::default();
            let [one, other] = [Replica::start(&registry, CONFIG).await, Replica::start(&registry, CONFIG).await];
            let fails = if is_silent { &registry.is_silent } else { &registry.is_away };
            fails.store(true, Relaxed);
            one.order(&order, true).await;
            assert_eq!((one.by_hand(), one.orders.is_stored()), (vec![said.to_owned()], false));
            seconds(30).await;
            assert_eq!((one.by_hand(), other.by_hand()), (vec![said.to_owned()], vec![]));
            fails.store(false, Relaxed);
            seconds(5).await;
            assert_eq!((other.by_hand(), one.orders.is_stored()), (vec![said.to_owned()], true));
            // Taken back meanwhile, it does not come back.
            fails.store(true, Relaxed);
            other.order(&order, false).await;
            seconds(30).await;
            assert_eq!((one.by_hand(), other.by_hand()), (vec![said.to_owned()], vec![]));
            fails.store(false, Relaxed);
            seconds(5).await;
            assert_eq!((one.by_hand(), other.by_hand()), (vec![], vec![]), "{order:?}");
        }
    }
}

/// As long as one order is not in the store, no answer says that all gateways have them.
#[tokio::test(start_paused = true)]
async fn many_orders_of_an_outage_are_stored_before_it_is_said() {
    let registry = Registry::default();
    let [one, other] = [Replica::start(&registry, CONFIG).await, Replica::start(&registry, CONFIG).await];
    registry.is_away.store(true, Relaxed);
    for n in 0..30 {
        one.order(&StandingOrder::Level { feature: Some(format!("feature-{n:02}").into()), level: 2 }, true).await;
    }
    registry.is_away.store(false, Relaxed);
    for _ in 0..10 {
        sleep(TURN).await;
        let stored = registry.read(EntryKind::Order).await.unwrap().entries.len();
        assert!(!one.orders.is_stored() || stored == 30, "{stored} of 30 are stored");
    }
    assert_eq!((one.orders.is_stored(), other.by_hand().len()), (true, 30));
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_reply_is_lost_is_given_once() {
    let registry = Registry::default();
    let one = Replica::start(&registry, CONFIG).await;
    let drain = StandingOrder::Drain { tier: "sonnet".into() };
    registry.leaves_after_orders.store(true, Relaxed);
    one.order(&drain, true).await;
    registry.leaves_after_orders.store(false, Relaxed);
    registry.is_away.store(false, Relaxed);
    seconds(2).await;
    assert_eq!((one.by_hand(), one.orders.is_stored()), (vec!["sonnet drained".to_owned()], true));
    assert_eq!(logged(&registry).await.len(), 1);
}

/// Eight operators at three gateways, who contradict each other: all gateways agree on one of the orders.
#[tokio::test(start_paused = true)]
async fn of_contradictions_one_stands_everywhere() {
    for seed in 0..20 {
        let (registry, mut random) = (Registry::default(), fastrand::Rng::with_seed(seed));
        let mut replicas = Vec::new();
        for _ in 0..3 {
            replicas.push(Replica::start(&registry, CONFIG).await);
        }
        for _ in 0..40 {
            let (order, _) = &all()[random.usize(..6)];
            let holds = random.bool();
            registry.is_away.store(random.u8(..4) == 0, Relaxed);
            let [a, b] = [random.usize(..3), random.usize(..3)];
            tokio::join!(replicas[a].order(order, holds), replicas[b].order(order, !holds));
            sleep(Duration::from_millis(random.u64(..1500))).await;
        }
        registry.is_away.store(false, Relaxed);
        seconds(10).await;
        let said: Vec<_> = replicas.iter().map(Replica::by_hand).collect();
        let stored = registry.read(EntryKind::Order).await.unwrap().entries.len();
        assert!(said.iter().all(|one| *one == said[0] && one.len() == stored), "{seed}: {said:?}, {stored} stored");
    }
}

#[tokio::test(start_paused = true)]
async fn what_this_version_cannot_read_holds_nowhere_and_can_be_replaced() {
    let registry = Registry::default();
    let edit = |name: &str, document: &str| RegistryEdit {
        kind: EntryKind::Order,
        name: name.into(),
        action: "order".into(),
        replaces: None,
        document: Some(document.into()),
    };
    let odd = [
        edit("drain sonnet", r#"{"order":{"dance":{"tier":"sonnet"}},"by":"ana"}"#),
        edit("drain backup", r#"{"order":{"drain":{"tier":"sonnet"}},"by":"ana"}"#),
        edit("level", "not JSON"),
        edit("drain nowhere", r#"{"order":{"drain":{"tier":"nowhere"}},"by":"ana"}"#),
        edit("level chat", r#"{"order":{"level":{"feature":"chat","level":2}},"by":"ana"}"#),
    ];
    registry.apply("ana", odd.into()).await.unwrap();
    let one = Replica::start(&registry, CONFIG).await;
    assert_eq!(one.by_hand(), ["chat level 2"]);
    let drain = StandingOrder::Drain { tier: "sonnet".into() };
    one.order(&drain, true).await;
    let again = Replica::start(&registry, CONFIG).await;
    assert_eq!(again.by_hand(), ["sonnet drained", "chat level 2"]);
    // An older copy of the store counts as a whole.
    *lock(&registry.inner) = MemoryRegistry::default();
    seconds(2).await;
    assert_eq!((one.by_hand(), again.by_hand()), (vec![], vec![]));
}
