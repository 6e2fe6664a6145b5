use std::sync::LazyLock;

use redis::Script;

use super::{Redis, clock::late, link::Purpose};
use steadfast::{
    layers::balance::{HeadroomFuture, HeadroomGrant, HeadroomOrder, HeadroomStore},
    store::{StoreError, StoreErrorKind},
};

static HEADROOM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/headroom.lua")));

const WHAT: &str = "sharing the headroom of deployments";
/// The largest amount that is sent: beyond it a number is nonsense.
const MOST: f64 = 1e15;

/// A hash for each limit, `headroom:` and its name behind the prefix, which expires ten minutes after its last use. A
/// bucket that Redis loses is full again.
impl HeadroomStore for Redis {
    fn exchange<'a>(&'a self, orders: &'a [HeadroomOrder]) -> HeadroomFuture<'a> {
        Box::pin(async move {
            let mut call = HEADROOM.prepare_invoke();
            call.arg(self.not_after());
            for order in orders {
                call.key(self.key(&format!("headroom:{}", order.name)));
                let amounts = [order.per_minute.max(0.0), order.settle, order.reserve.max(0.0)];
                for amount in amounts.map(|amount| if amount.is_nan() { 0.0 } else { amount.clamp(-MOST, MOST) }) {
                    call.arg(format!("{amount:.3}"));
                }
            }
            let reply: Vec<Vec<u8>> = self.run(WHAT, Purpose::Replicas, &call).await?;
            self.set_clock(reply.first());
            match &reply[..] {
                [_] if !orders.is_empty() => Err(late(WHAT)),
                reply => grants(reply, orders.len()).ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, WHAT)),
            }
        })
    }
}

/// Parses the script's reply: the time, then for each order what was granted and what is left.
fn grants(reply: &[Vec<u8>], orders: usize) -> Option<Vec<HeadroomGrant>> {
    let number = |text: &Vec<u8>| std::str::from_utf8(text).ok()?.parse::<f64>().ok().filter(|it| it.is_finite());
    let (pairs, rest) = reply.get(1..)?.as_chunks::<2>();
    let grant = |[granted, left]: &[Vec<u8>; 2]| Some(HeadroomGrant::new(number(granted)?, number(left)?));
    (pairs.len() == orders && rest.is_empty()).then(|| pairs.iter().map(grant).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_no_answer() {
        let reply = |parts: &[&str]| grants(&parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>(), 1);
        assert_eq!(reply(&["1000", "2.500", "-3.000"]), Some(vec![HeadroomGrant::new(2.5, -3.0)]));
        let bad: [&[&str]; 6] = [&[], &["1"], &["1", "2"], &["1", "2", "x"], &["1", "2", "inf"], &["1", "2", "3", "4"]];
        assert!(bad.iter().all(|bad| reply(bad).is_none()));
    }
}
