//! Descriptors of nodes that are known by their handles, kept until others take their place: what
//! was looked up just now is what is asked about next.
//!
//! Never known here: what a descriptor refers to. Neighbour: `table` counts these against the
//! budget.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use fusewire::proto::NodeId;
use parking_lot::Mutex;

/// More than a READDIRPLUS of 32 KiB lists, twice.
const MOST: usize = 512;

type Place = Mutex<Option<(NodeId, Arc<OwnedFd>)>>;

/// The descriptors: each node has one place where its own may be.
#[derive(Debug)]
pub(crate) struct Recent {
    places: Vec<Place>,
}

impl Recent {
    /// Room for at most a quarter of a budget of descriptors.
    pub(crate) fn new(budget: usize) -> Self {
        Self { places: (0..MOST.min(budget / 4)).map(|_| Mutex::default()).collect() }
    }

    /// How many there may be.
    pub(crate) fn most(&self) -> usize {
        self.places.len()
    }

    fn place(&self, id: NodeId) -> Option<&Place> {
        let index = id.0.checked_rem(self.places.len() as u64)?;
        self.places.get(usize::try_from(index).ok()?)
    }

    /// The descriptor of a node, if it is still there.
    pub(crate) fn get(&self, id: NodeId) -> Option<Arc<OwnedFd>> {
        let place = self.place(id)?.lock();
        place.as_ref().filter(|(known, _)| *known == id).map(|(_, fd)| Arc::clone(fd))
    }

    /// Keeps the descriptor of a node for a while.
    pub(crate) fn keep(&self, id: NodeId, fd: &Arc<OwnedFd>) {
        if let Some(place) = self.place(id) {
            let before = place.lock().replace((id, Arc::clone(fd)));
            // Closed here, without the lock.
            drop(before);
        }
    }

    /// The node is no more.
    pub(crate) fn forget(&self, id: NodeId) {
        if let Some(place) = self.place(id) {
            let before = place.lock().take_if(|(known, _)| *known == id);
            drop(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/").unwrap().into())
    }

    #[test]
    fn a_place_has_one_and_the_last_one_stays() {
        let recent = Recent::new(8);
        assert_eq!(recent.most(), 2);
        let (two, three, four) = (fd(), fd(), fd());
        recent.keep(NodeId(2), &two);
        recent.keep(NodeId(3), &three);
        assert!(Arc::ptr_eq(&recent.get(NodeId(2)).unwrap(), &two));
        recent.keep(NodeId(4), &four);
        assert!(recent.get(NodeId(2)).is_none());
        assert_eq!(Arc::strong_count(&two), 1, "nobody else holds it");
        recent.forget(NodeId(2));
        assert!(Arc::ptr_eq(&recent.get(NodeId(4)).unwrap(), &four));
        recent.forget(NodeId(4));
        assert!(recent.get(NodeId(4)).is_none());
        assert!(Arc::ptr_eq(&recent.get(NodeId(3)).unwrap(), &three));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let recent = Recent::new(3);
        let one = fd();
        recent.keep(NodeId(1), &one);
        assert!(recent.get(NodeId(1)).is_none());
        recent.forget(NodeId(1));
    }
}
