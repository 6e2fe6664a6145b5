use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Place, PlaceStore, StoreFuture, forgotten};
use steadfast::layers::cache::AnswerOwner;
use steadfast_internal::sync::{Mutex, lock};

/// Places in the memory of the process: the latest 100,000. They end with it.
///
/// A full memory forgets the oldest place of the owner with the most, so that nobody makes another's forgotten. Clones
/// share the places.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlaces {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<String, Place>,
    /// The ids of each owner, the oldest first. Some may be deleted.
    order: HashMap<Arc<str>, VecDeque<String>>,
    /// The owners by the lengths of their queues.
    owners: BTreeSet<(usize, Arc<str>)>,
    /// The ids in all queues.
    count: usize,
}

/// A place takes some 300 bytes.
const MOST: usize = 100_000;

impl MemoryPlaces {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores places. Returns those that were unknown.
    pub fn remember(&self, mut places: Vec<Place>) -> Vec<Place> {
        let known = &mut *lock(&self.known);
        places.retain(|place| known.put(place.clone()));
        places
    }
}

impl Known {
    /// Returns false for a place whose id is known.
    fn put(&mut self, place: Place) -> bool {
        if self.places.contains_key(&place.id) {
            return false;
        }
        let owner = self.order.get_key_value(&*place.owner).map(|(owner, _)| owner.clone());
        let owner = owner.unwrap_or_else(|| place.owner.as_str().into());
        let queue = self.order.entry(owner.clone()).or_default();
        self.owners.remove(&(queue.len(), owner.clone()));
        queue.push_back(place.id.clone());
        self.owners.insert((queue.len(), owner));
        self.count += 1;
        self.places.insert(place.id.clone(), place);
        if self.count > MOST {
            self.forget_one();
        }
        true
    }

    /// Forgets the oldest place of the owner with the most.
    fn forget_one(&mut self) {
        let Some((length, owner)) = self.owners.pop_last() else { return };
        let Some(queue) = self.order.get_mut(&owner) else { return };
        if let Some(oldest) = queue.pop_front() {
            self.places.remove(&oldest);
        }
        self.count -= 1;
        if length > 1 {
            self.owners.insert((length - 1, owner));
        } else {
            self.order.remove(&owner);
        }
    }
}

impl PlaceStore for MemoryPlaces {
    fn put(&self, places: Vec<Place>, _keep: Option<Duration>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.remember(places);
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
            if let Some((owner, queue)) = known.order.remove_entry(owner) {
                known.owners.remove(&(queue.len(), owner));
                known.count -= queue.len();
            }
            Ok((before - known.places.len()) as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: usize, owner: &str) -> Place {
        Place { id: format!("file-{number}"), owner: owner.to_owned(), tier: "main".to_owned() }
    }

    #[tokio::test]
    async fn the_latest_stay_and_an_id_keeps_its_owner() {
        let store = MemoryPlaces::new();
        for number in 0..MOST + 5 {
            store.put(vec![place(number, "one")], None).await.unwrap();
        }
        store.put(vec![place(MOST, "two")], None).await.unwrap();
        let found = store.find(vec!["file-4".into(), "file-5".into(), format!("file-{MOST}")]).await.unwrap();
        assert_eq!(found, [place(5, "one"), place(MOST, "one")]);
        assert_eq!(lock(&store.known).places.len(), MOST);
    }

    #[tokio::test]
    async fn nobody_makes_anothers_places_forgotten() {
        let store = MemoryPlaces::new();
        store.put((0..50).map(|number| place(number, "one")).collect(), None).await.unwrap();
        store.put((50..50 + 2 * MOST).map(|number| place(number, "two")).collect(), None).await.unwrap();
        store.put(vec![place(3 * MOST, "three")], None).await.unwrap();
        let ids = (0..50).chain([3 * MOST]).map(|number| format!("file-{number}")).collect::<Vec<_>>();
        assert_eq!(store.find(ids).await.unwrap().len(), 51);
        let known = lock(&store.known);
        assert_eq!((known.places.len(), known.count), (MOST, MOST));
    }

    #[tokio::test]
    async fn a_forgotten_owner_leaves_room() {
        let store = MemoryPlaces::new();
        store.put((0..MOST).map(|number| place(number, "one")).collect(), None).await.unwrap();
        assert_eq!(store.forget_owner(&AnswerOwner::tenant("one")).await.unwrap(), MOST as u64);
        assert_eq!(lock(&store.known).count, 0);
        store.put((0..MOST).map(|number| place(number, "two")).collect(), None).await.unwrap();
        assert_eq!(store.find(vec!["file-0".into()]).await.unwrap(), [place(0, "two")]);
    }
}
