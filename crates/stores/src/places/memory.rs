use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Place, PlaceStore, StoreFuture, forgotten};
use steadfast::layers::cache::AnswerOwner;
use steadfast_internal::sync::{Mutex, lock};

/// Places in the memory of the process: the latest 100,000. They end with it.
///
/// Clones share the places.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlaces {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<String, Place>,
    /// The ids, the oldest first. Some may be deleted.
    order: VecDeque<String>,
}

/// A place takes some 300 bytes.
const MOST: usize = 100_000;

impl MemoryPlaces {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl PlaceStore for MemoryPlaces {
    fn put(&self, places: Vec<Place>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let known = &mut *lock(&self.known);
            for place in places {
                if known.places.contains_key(&place.id) {
                    continue;
                }
                known.order.push_back(place.id.clone());
                known.places.insert(place.id.clone(), place);
                if known.order.len() > MOST
                    && let Some(oldest) = known.order.pop_front()
                {
                    known.places.remove(&oldest);
                }
            }
            Ok(())
        })
    }

    fn find(&self, ids: Vec<String>) -> StoreFuture<'_, Vec<Place>> {
        Box::pin(async move {
            let known = lock(&self.known);
            Ok(ids.iter().filter_map(|id| known.places.get(id).cloned()).collect())
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move { Ok(lock(&self.known).places.remove(id).is_some()) })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let Some(owner) = forgotten(owner) else { return Ok(0) };
            let known = &mut *lock(&self.known);
            let before = known.places.len();
            known.places.retain(|_, place| place.owner != owner);
            Ok((before - known.places.len()) as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_latest_stay_and_an_id_keeps_its_owner() {
        let store = MemoryPlaces::new();
        let place = |number: usize, owner: &str| Place {
            id: format!("file-{number}"),
            owner: owner.to_owned(),
            tier: "main".to_owned(),
        };
        for number in 0..MOST + 5 {
            store.put(vec![place(number, "one")]).await.unwrap();
        }
        store.put(vec![place(MOST, "two")]).await.unwrap();
        let found = store.find(vec!["file-4".into(), "file-5".into(), format!("file-{MOST}")]).await.unwrap();
        assert_eq!(found, [place(5, "one"), place(MOST, "one")]);
        assert_eq!(lock(&store.known).order.len(), MOST);
    }
}
