//! What the kernel is still to be told, and the threads that tell it.
//!
//! A notification may block for as long as a client keeps the lock that it needs. Those about
//! inodes wait for pages only, which shards answer for; one thread makes them. Those about names
//! wait for the lock of the directory, in which a client may be stuck (getdents(2) into memory that
//! never comes); so they have [`TELLERS`] threads, each at one directory. No shard waits for any of
//! them: it puts things down here and goes on.
//!
//! All is bounded: what is said of one node is said once, and what finds no room is found by a
//! sweep. What comes for a directory that is being told of has little room and takes none from the
//! others, as it may wait for as long as a client likes; more of it is found when that has ended.
//!
//! Never known here: events. Neighbours: `watch` and `handles` put things down, `node` remembers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fusewire::Notifier;
use fusewire::proto::flags::InvalEntryFlags;
use fusewire::proto::notify::Notification;
use fusewire::proto::{Errno, Name, NodeId, Result};
use parking_lot::{Condvar, Mutex};

use crate::mirror::Mirror;

/// Directories in which clients may be stuck while names of others are still told.
pub(crate) const TELLERS: usize = 4;
/// Nodes, and names, that wait to be told of. More are found by a sweep.
const WAITING_MAX: usize = 65536;
/// Names that wait until their directory has been told of others.
const BUSY_MAX: usize = 1024;
/// How often an inode is given up that somebody looks at just then: each time after twice as long.
const TRIES_MAX: u32 = 8;
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// After this a name is told a second time: the answer to a LOOKUP that was asked for again, of
/// before the change, could reach the kernel after the first (`fs/fuse/dir.c,
/// fuse_dentry_revalidate` does so without the directory's lock).
const LOOKED_UP: Duration = Duration::from_millis(100);
/// At least between two sweeps.
const REST: Duration = Duration::from_secs(1);

/// What has changed of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Its data, not its attributes alone.
    pub(crate) data: bool,
    /// What the kernel asks nobody for, with write-back: its size and times. It takes them from a
    /// new inode only, so it must forget this one.
    pub(crate) owned: bool,
    tries: u32,
}

impl News {
    pub(crate) const ATTRIBUTES: Self = Self { data: false, owned: false, tries: 0 };
    pub(crate) const DATA: Self = Self { data: true, owned: false, tries: 0 };

    /// The same of a regular file, where the kernel owns size and times.
    pub(crate) fn owned(self) -> Self {
        Self { owned: true, ..self }
    }
}

/// How often a name was told, or need not be told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    First,
    Last,
}

type Names = HashMap<Box<[u8]>, Turn>;

/// Where it is put down.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    for_nodes: Condvar,
    for_names: Condvar,
    for_sweeps: Condvar,
    cannot_prune: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    nodes: HashMap<NodeId, News>,
    nodes_order: VecDeque<NodeId>,
    /// Inodes that were looked at when they were given up, by when that is tried again.
    later: BTreeMap<(Instant, NodeId), News>,
    put_off: HashSet<NodeId>,
    names: HashMap<NodeId, Names>,
    names_order: VecDeque<NodeId>,
    names_waiting: usize,
    names_later: BTreeMap<(Instant, NodeId), Names>,
    names_put_off: usize,
    /// Directories whose names are being told.
    busy: HashSet<NodeId>,
    /// Those of them whose names found no room.
    missed: HashSet<NodeId>,
    sweep: bool,
}

impl State {
    fn put(&mut self, id: NodeId, news: News) {
        if let Some(known) = self.nodes.get_mut(&id) {
            known.data |= news.data;
            known.owned |= news.owned;
            known.tries = known.tries.min(news.tries);
        } else if self.nodes.len() >= WAITING_MAX {
            self.sweep = true;
        } else {
            self.nodes.insert(id, news);
            self.nodes_order.push_back(id);
        }
    }

    fn put_name(&mut self, parent: NodeId, name: &[u8], turn: Turn) {
        let is_busy = self.busy.contains(&parent);
        if is_busy {
            if self.names.get(&parent).is_some_and(|names| names.len() >= BUSY_MAX) {
                self.missed.insert(parent);
                return;
            }
        } else if self.names_waiting >= WAITING_MAX {
            self.sweep = true;
            return;
        }
        let names = self.names.entry(parent).or_insert_with(|| {
            self.names_order.push_back(parent);
            HashMap::new()
        });
        match names.get_mut(name) {
            Some(known) => *known = (*known).min(turn),
            None => {
                names.insert(name.into(), turn);
                self.names_waiting += usize::from(!is_busy);
            }
        }
    }

    /// The next node, or else until when there is surely none.
    fn next(&mut self) -> std::result::Result<(NodeId, News), Option<Instant>> {
        let now = Instant::now();
        while let Some(due) = self.later.first_entry().filter(|due| due.key().0 <= now) {
            let ((_, id), news) = due.remove_entry();
            self.put_off.remove(&id);
            self.put(id, news);
        }
        let id = self.nodes_order.pop_front();
        let next = id.and_then(|id| Some((id, self.nodes.remove(&id)?)));
        next.ok_or_else(|| self.later.first_key_value().map(|((when, _), _)| *when))
    }

    /// Puts a node down for later, unless it is, and says whether it was not. What finds no room is
    /// still outdated, so it is put down when somebody looks at it.
    fn put_off(&mut self, id: NodeId, news: News) -> bool {
        let is_new = self.put_off.len() < WAITING_MAX && self.put_off.insert(id);
        if is_new {
            let when = Instant::now() + TRY_AGAIN * (1 << news.tries);
            self.later.insert((when, id), News { tries: news.tries + 1, ..news });
        }
        is_new
    }

    /// The names of a directory that nobody tells names of, or else until when there are none.
    fn next_names(&mut self) -> std::result::Result<(NodeId, Names), Option<Instant>> {
        let now = Instant::now();
        while let Some(due) = self.names_later.first_entry().filter(|due| due.key().0 <= now) {
            let ((_, parent), names) = due.remove_entry();
            self.names_put_off -= names.len();
            names.iter().for_each(|(name, turn)| self.put_name(parent, name, *turn));
        }
        let free = self.names_order.iter().position(|id| !self.busy.contains(id));
        let id = free.and_then(|free| self.names_order.remove(free));
        let Some((id, names)) = id.and_then(|id| Some((id, self.names.remove(&id)?))) else {
            return Err(self.names_later.first_key_value().map(|((when, _), _)| *when));
        };
        self.names_waiting -= names.len();
        self.busy.insert(id);
        Ok((id, names))
    }

    /// A directory has been told of; what came for it meanwhile waits with all the others.
    fn free(&mut self, parent: NodeId) {
        self.busy.remove(&parent);
        self.names_waiting += self.names.get(&parent).map_or(0, Names::len);
        self.sweep |= self.missed.remove(&parent);
    }

    /// Puts those that were told once down for later.
    fn put_names_off(&mut self, parent: NodeId, mut names: Names) {
        names.retain(|_, turn| std::mem::replace(turn, Turn::Last) == Turn::First);
        if names.is_empty() {
        } else if self.names_put_off + names.len() > WAITING_MAX {
            self.sweep = true;
        } else {
            self.names_put_off += names.len();
            self.names_later.insert((Instant::now() + LOOKED_UP, parent), names);
        }
    }

    fn has_room(&self) -> bool {
        self.nodes.len() < WAITING_MAX / 2 && self.names_waiting < WAITING_MAX / 2
    }
}

impl Desk {
    /// An inode has changed.
    pub(crate) fn node(&self, id: NodeId, news: News) {
        self.put(|state| state.put(id, news), &self.for_nodes);
    }

    /// A name means something else, or nothing, or something.
    pub(crate) fn name(&self, parent: NodeId, name: &[u8]) {
        self.put(|state| state.put_name(parent, name, Turn::First), &self.for_names);
    }

    /// Somebody looks at an inode that is outdated and that nobody has open: whoever held it may
    /// have let go, of which nothing tells. Answers whether the kernel can be made to forget it.
    pub(crate) fn looked_at(&self, id: NodeId) -> bool {
        let can_prune = !self.cannot_prune.load(Ordering::Relaxed);
        // One that is tried again already is not tried more often.
        if can_prune && self.state.lock().put_off(id, News::ATTRIBUTES.owned()) {
            self.for_nodes.notify_one();
        }
        can_prune
    }

    /// Anything may have changed.
    pub(crate) fn sweep(&self) {
        self.put(|state| state.sweep = true, &self.for_sweeps);
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        for all in [&self.for_nodes, &self.for_names, &self.for_sweeps] {
            all.notify_all();
        }
    }

    /// Puts something down, for one of those who wait at `whom`.
    fn put(&self, put: impl FnOnce(&mut State), whom: &Condvar) {
        let mut state = self.state.lock();
        put(&mut state);
        if state.sweep {
            self.for_sweeps.notify_one();
        }
        drop(state);
        whom.notify_one();
    }

    /// Waits for something to do, but no longer than until the moment that `next` answers; `None`
    /// at the end.
    fn wait<T>(
        &self,
        at: &Condvar,
        mut next: impl FnMut(&mut State) -> std::result::Result<T, Option<Instant>>,
    ) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return None;
            }
            match next(&mut state) {
                Ok(found) => return Some(found),
                Err(Some(until)) => drop(at.wait_until(&mut state, until)),
                Err(None) => at.wait(&mut state),
            }
        }
    }
}

/// A thread that tells the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    pub(crate) desk: Arc<Desk>,
    pub(crate) mirror: Weak<Mirror>,
    pub(crate) notifier: Notifier,
    /// Whether the kernel owns sizes and times.
    pub(crate) writeback: bool,
}

impl Teller {
    /// What the kernel says to a notification matters only where it means the end: what it does not
    /// know need not be told.
    fn tell(&self, notification: &Notification<'_>) -> Result<()> {
        let told = self.notifier.tell(notification);
        match told {
            Err(Errno::ENOTCONN | Errno::ENODEV) => self.desk.end(),
            Err(Errno::ENOENT) | Ok(()) => {}
            Err(error) => tracing::debug!(%error, "{notification}"),
        }
        told
    }

    /// Tells of inodes.
    pub(crate) fn nodes(&self) {
        while let Some((node, news)) = self.desk.wait(&self.desk.for_nodes, State::next) {
            self.desk.for_sweeps.notify_one();
            if news.owned && self.writeback {
                // Before the kernel asks for attributes, which it is not to keep.
                let find = || self.mirror.upgrade()?.table.get(node).ok();
                find().inspect(|node| node.outdated.store(true, Ordering::SeqCst));
            }
            if news.tries == 0 {
                let offset = if news.data { 0 } else { -1 };
                let _ = self.tell(&Notification::InvalInode { node, offset, len: 0 });
            }
            if news.owned && self.writeback {
                self.give_up(node, news);
            }
        }
    }

    /// Has the kernel forget an inode that nobody has open; one that is open goes after that.
    fn give_up(&self, id: NodeId, news: News) {
        let find = || self.mirror.upgrade()?.table.get(id).ok();
        let Some(node) = find() else { return };
        if node.through.is_open() || self.desk.cannot_prune.load(Ordering::Relaxed) {
            return;
        }
        drop(node);
        if self.tell(&Notification::Prune { nodes: &[id] }) == Err(Errno::EINVAL) {
            tracing::warn!(
                "size and mtime of what the kernel knows stay until it forgets the file: that it \
                 can be asked for takes Linux 6.18; or --writeback off"
            );
            return self.desk.cannot_prune.store(true, Ordering::Relaxed);
        }
        // The kernel does not say whether it could; the FORGET comes a moment later.
        if news.tries < TRIES_MAX && find().is_some() {
            self.desk.state.lock().put_off(id, news);
        }
    }

    /// Tells of names.
    pub(crate) fn names(&self) {
        let desk = &self.desk;
        while let Some((parent, mut names)) = desk.wait(&desk.for_names, State::next_names) {
            desk.for_sweeps.notify_one();
            // What a mount lies on is only asked for again, not taken away with the mount.
            let flags = InvalEntryFlags::EXPIRE_ONLY;
            names.retain(|name, _| {
                Name::new(name).is_ok_and(|name| {
                    self.tell(&Notification::InvalEntry { parent, name, flags }).is_ok()
                })
            });
            let free = |state: &mut State| {
                state.free(parent);
                state.put_names_off(parent, names);
            };
            desk.put(free, &desk.for_names);
        }
    }

    /// Tells of everything that the kernel knows, when events were lost.
    pub(crate) fn sweeps(&self) {
        let desk = &self.desk;
        let mut from = Instant::now();
        let wanted = |from: Instant| {
            move |state: &mut State| {
                if !state.sweep {
                    return Err(None);
                }
                if Instant::now() < from {
                    return Err(Some(from));
                }
                state.sweep = false;
                Ok(())
            }
        };
        while desk.wait(&desk.for_sweeps, wanted(from)).is_some() {
            tracing::warn!("events were lost; the kernel is told to ask for everything again");
            let Some(mirror) = self.mirror.upgrade() else { return };
            for part in mirror.table.parts() {
                for node in part() {
                    let room = |state: &mut State| state.has_room().then_some(()).ok_or(None);
                    if desk.wait(&desk.for_sweeps, room).is_none() {
                        return;
                    }
                    desk.node(node.id, mirror.news_of_a_sweep(&node));
                    if let Some((parent, name)) = node.place.lock().as_deref() {
                        let put = |state: &mut State| state.put_name(*parent, name, Turn::Last);
                        desk.put(put, &desk.for_names);
                    }
                }
            }
            mirror.figures.sweeps.count();
            from = Instant::now() + REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    #[test]
    fn news_of_one_node_are_told_once() {
        let mut state = State::default();
        state.put(ONE, News::ATTRIBUTES);
        state.put(TWO, News::ATTRIBUTES);
        state.put(ONE, News::DATA);
        state.put(ONE, News::ATTRIBUTES.owned());
        assert_eq!(state.next(), Ok((ONE, News::DATA.owned())));
        assert_eq!(state.next(), Ok((TWO, News::ATTRIBUTES)));
        assert_eq!(state.next(), Err(None));
    }

    #[test]
    fn an_inode_is_given_up_a_few_times_each_later_than_the_last() {
        let mut state = State::default();
        let (mut news, mut last) = (News::DATA.owned(), Duration::ZERO);
        for tries in 0..3 {
            let before = Instant::now();
            state.put_off(ONE, news);
            state.put_off(ONE, news);
            let when = state.next().unwrap_err().unwrap();
            assert!(when >= before + TRY_AGAIN * (1 << tries) && when - before > last);
            last = when - before;
            std::thread::sleep(when - Instant::now());
            news = state.next().unwrap().1;
            assert_eq!(news.tries, tries + 1);
            assert_eq!(state.next(), Err(None), "once");
        }
    }

    #[test]
    fn names_of_a_directory_wait_for_those_of_it_that_are_being_told() {
        let mut state = State::default();
        state.put_name(ONE, b"a", Turn::First);
        state.put_name(ONE, b"a", Turn::First);
        let (parent, names) = state.next_names().unwrap();
        assert_eq!((parent, names.len()), (ONE, 1));
        state.put_name(ONE, b"b", Turn::First);
        assert!(state.next_names().is_err());
        state.put_name(TWO, b"c", Turn::First);
        assert_eq!(state.next_names().unwrap().0, TWO, "the others go on");
        assert_eq!(state.names_waiting, 0, "what waits for a busy directory is its own");
        state.free(ONE);
        assert_eq!(state.names_waiting, 1);
        let (parent, names) = state.next_names().unwrap();
        assert!(parent == ONE && names.contains_key(&b"b"[..]));
        assert_eq!(state.names_waiting, 0);
    }

    #[test]
    fn a_name_is_told_twice_and_no_more() {
        let mut state = State::default();
        state.put_name(ONE, b"a", Turn::First);
        let before = Instant::now();
        for _ in 0..2 {
            let (parent, names) = state.next_names().unwrap();
            state.free(parent);
            state.put_names_off(parent, names);
            let later = state.next_names().unwrap_err();
            if let Some(when) = later {
                assert!(when >= before + LOOKED_UP);
                std::thread::sleep(when - Instant::now());
            }
        }
        assert_eq!(state.next_names().unwrap_err(), None);
        assert_eq!((state.names_waiting, state.names_put_off), (0, 0));
    }

    #[test]
    fn a_busy_directory_takes_no_room_from_the_others() {
        let mut state = State::default();
        state.put_name(ONE, b"first", Turn::First);
        assert_eq!(state.next_names().unwrap().0, ONE);
        for name in 0..2 * WAITING_MAX {
            state.put_name(ONE, &name.to_ne_bytes(), Turn::First);
        }
        assert!(!state.sweep && state.has_room());
        assert_eq!(state.names[&ONE].len(), BUSY_MAX);
        state.put_name(TWO, b"other", Turn::First);
        assert_eq!(state.next_names().unwrap().0, TWO);
        state.free(TWO);
        assert!(!state.sweep, "nothing of it was missed");
        state.free(ONE);
        assert!(state.sweep);
        assert_eq!(state.next_names().unwrap().1.len(), BUSY_MAX);
        assert_eq!(state.names_waiting, 0);
    }

    #[test]
    fn what_finds_no_room_is_found_by_a_sweep() {
        let mut state = State::default();
        (0..WAITING_MAX as u64).for_each(|id| state.put(NodeId(id), News::DATA));
        assert!(!state.sweep && !state.has_room());
        state.put(NodeId(0), News::DATA);
        assert!(!state.sweep, "it is down already");
        state.put(NodeId(u64::MAX), News::DATA);
        assert!(state.sweep);
        let mut state = State::default();
        (0..WAITING_MAX).for_each(|name| state.put_name(ONE, &name.to_ne_bytes(), Turn::First));
        assert!(!state.sweep && !state.has_room());
        state.put_name(TWO, b"more", Turn::First);
        assert!(state.sweep);
        assert_eq!(state.next_names().unwrap().1.len(), WAITING_MAX);
    }
}
