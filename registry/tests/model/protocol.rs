//! The machine: a state, and for each actor the steps it can take from there. One step is one operation of the store.

use stateright::{Model, Property};

use crate::blob::BlobPush;
use crate::collect::{self, Collector};
use crate::delete::Delete;
use crate::key::{Key, Repo, Tag};
use crate::network::{self, Change, Place};
use crate::oracle::{self, Broken, Owed};
use crate::pull::Pull;
use crate::put::{Put, Sub};
use crate::rules::{Request, Rules, Scenario};
use crate::store::{Store, Target};

/// Where an actor stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Actor {
    /// Not begun.
    Waiting,
    Put(Put),
    Blob(BlobPush),
    Delete(Delete),
    Pull(Pull),
    Collector(Collector),
    /// Answered 2xx.
    Answered,
    /// Answered that it cannot be done; nothing of it may be seen.
    Refused,
    /// Answered 503 after the deadline: what it wrote may or may not be seen.
    Unknown,
}

impl Actor {
    /// Whether what it does next may depend on a list.
    fn reads_lists(&self, protocol: &Protocol) -> bool {
        match self {
            Self::Put(put) => put.reads_lists(protocol),
            Self::Collector(collector) => collector.reads_lists(),
            Self::Waiting | Self::Blob(_) | Self::Delete(_) | Self::Pull(_) => true,
            Self::Answered | Self::Refused | Self::Unknown => false,
        }
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        match self {
            Self::Put(put) => put.sub != Sub::RemoveIntents,
            Self::Blob(_) | Self::Delete(_) => true,
            Self::Waiting | Self::Pull(_) | Self::Collector(_) | Self::Answered | Self::Refused | Self::Unknown => {
                false
            }
        }
    }
}

/// Everything at rest, every actor, and what the oracle remembers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) actors: Vec<Actor>,
    /// Half of the grace has passed since these began.
    pub(crate) late: u8,
    pub(crate) jumps: u8,
    /// First tries that were given up and may still arrive.
    pub(crate) on_their_way: Vec<Key>,
    /// On a network: what others may not see yet.
    pub(crate) unseen: Vec<Change>,
    /// Deletions that a request overlapped which may bring what they delete.
    pub(crate) overlapped: u8,
    /// Which digests a client's deletion overlapped which request: sixteen bits for each actor.
    pub(crate) excused: u128,
    pub(crate) owed: Vec<Owed>,
    pub(crate) broken: Broken,
}

/// One step of one actor, and where it leads.
#[derive(Clone, PartialEq)]
pub(crate) struct Action {
    who: usize,
    what: &'static str,
    on: Option<Key>,
    next: State,
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.who, self.what)?;
        self.on.map_or(Ok(()), |key| write!(f, " {key:?}"))
    }
}

/// A scenario under rules.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) rules: Rules,
    pub(crate) scenario: Scenario,
}

/// The turn of one actor: collects the steps it can take.
pub(crate) struct Turn<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) state: &'a State,
    pub(crate) who: usize,
    /// What lists show to this actor.
    lists: &'a Store,
    steps: &'a mut Vec<Action>,
}

impl<'a> Turn<'a> {
    /// What is there, as lists show it.
    pub(crate) fn store(&self) -> &'a Store {
        self.lists
    }

    /// Whether a key is there that is looked up by its name.
    pub(crate) fn has(&self, key: Key) -> bool {
        let seems_there = self.protocol.scenario.place == Place::CachedLookups && self.lists.exists(key);
        seems_there || self.state.store.exists(key)
    }

    /// Adds one step: an operation named as in `docs/storage.md`, and what it changes.
    pub(crate) fn step(&mut self, what: &'static str, on: Option<Key>, change: impl FnOnce(&mut Next<'_>)) {
        let mut next = Next { protocol: self.protocol, who: self.who, state: self.state.clone() };
        change(&mut next);
        if self.state.actors.get(self.who) == Some(&Actor::Waiting) {
            oracle::begin(&mut next);
        }
        if self.protocol.rules.gives_up
            && self.state.late & (1 << self.who) != 0
            && next.state.actors[self.who].is_in_flight()
        {
            next.become_actor(Actor::Unknown);
        }
        self.steps.push(Action { who: self.who, what, on, next: next.state });
    }
}

/// The state after a step, while the step is being taken. Every change of the store goes through here, past the oracle.
pub(crate) struct Next<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) who: usize,
    pub(crate) state: State,
}

impl Next<'_> {
    pub(crate) fn become_actor(&mut self, actor: Actor) {
        self.state.actors[self.who] = actor;
    }

    pub(crate) fn write(&mut self, key: Key) {
        if self.protocol.rules.sent_twice.covers(key) {
            self.state.on_their_way.push(key);
            self.state.on_their_way.sort_unstable();
        }
        self.arrive(key);
    }

    fn arrive(&mut self, key: Key) {
        self.watched(Some(key), |store| store.put(key, 0));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.watched(Some(key), |store| store.delete(key));
    }

    pub(crate) fn put_tag(&mut self, repo: Repo, tag: Tag, target: Target) {
        self.watched(None, |store| store.put_tag(repo, tag, target));
    }

    pub(crate) fn delete_tag(&mut self, repo: Repo, tag: Tag) {
        self.watched(None, |store| store.delete_tag(repo, tag));
    }

    fn watched(&mut self, key: Option<Key>, change: impl FnOnce(&mut Store)) {
        let before = oracle::views(self, key);
        let age = key.and_then(|key| self.state.store.age(key));
        change(&mut self.state.store);
        if let Some(key) = key {
            self.key_changed(key, age);
        }
        oracle::judge(self, key, &before);
    }

    /// Answers 2xx, unless it is too late for that. `relied` are the children that the request relied on.
    pub(crate) fn answer(&mut self, relied: &[Key]) -> bool {
        let late = self.state.late & (1 << self.who) != 0;
        if late && self.protocol.rules.deadline {
            self.become_actor(Actor::Unknown);
            return false;
        }
        self.become_actor(Actor::Answered);
        oracle::answered(self, relied);
        true
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut store = Store::default();
        for key in &self.scenario.keys {
            store.put(*key, crate::store::OLD);
        }
        for (repo, tag, target) in &self.scenario.tags {
            store.put_tag(*repo, *tag, *target);
        }
        let actors = self.scenario.requests.iter().map(|request| match request {
            Request::Collect { runs } => Actor::Collector(Collector::new(*runs)),
            _ => Actor::Waiting,
        });
        let mut state = State {
            store,
            actors: actors.collect(),
            late: 0,
            jumps: 0,
            on_their_way: Vec::new(),
            unseen: Vec::new(),
            overlapped: 0,
            excused: 0,
            owed: Vec::new(),
            broken: Broken::default(),
        };
        oracle::owe_from_the_start(&self.scenario, &mut state);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken != Broken::default() {
            return;
        }
        for (who, actor) in state.actors.iter().enumerate() {
            let afresh = self.scenario.place == Place::Local
                || self.scenario.place == Place::Network && !actor.reads_lists(self)
                || self.rules.deletions_list_afresh && self.scenario.requests[who].deletes();
            let views = if afresh { vec![state.store.clone()] } else { network::views(state, who) };
            for lists in &views {
                self.act(Turn { protocol: self, state, who, lists, steps: &mut *actions }, actor);
            }
        }
        self.act_of_nobody(state, actions);
    }

    fn next_state(&self, _: &State, action: Action) -> Option<State> {
        Some(action.next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(oracle::I1, |_, state: &State| !state.broken.manifest),
            Property::always(oracle::LEASE, |_, state: &State| !state.broken.blob),
            Property::always(oracle::LISTED, |_, state: &State| !state.broken.listed),
            Property::always(oracle::I2, |_, state: &State| !state.broken.tag),
            Property::always(oracle::I3, |_, state: &State| !state.broken.refused),
            Property::always(oracle::I5, |_, state: &State| !state.broken.deleted),
            Property::always(oracle::LINK, |_, state: &State| !state.broken.link),
            Property::always(oracle::PULL, |_, state: &State| !state.broken.pull),
            Property::sometimes(oracle::ANSWERED, |_, state: &State| {
                state.actors.iter().all(|actor| matches!(actor, Actor::Answered | Actor::Collector(_)))
            }),
        ];
        if !self.scenario.wild
            && self.scenario.requests.iter().any(|request| matches!(request, Request::Collect { .. }))
        {
            properties.push(Property::sometimes(oracle::RECLAIMED, collect::everything_is_reclaimed));
        }
        properties
    }
}

impl Protocol {
    fn act(&self, mut turn: Turn<'_>, actor: &Actor) {
        match (actor, self.scenario.requests[turn.who]) {
            (Actor::Waiting, Request::Put { .. }) => Put::default().steps(&mut turn),
            (Actor::Waiting, Request::Mount { .. } | Request::Finish { .. }) => {
                BlobPush::default().steps(&mut turn);
            }
            (Actor::Waiting, Request::Pull { .. }) => Pull::default().steps(&mut turn),
            (Actor::Waiting, _) => Delete::begin(&mut turn),
            (Actor::Put(put), _) => put.clone().steps(&mut turn),
            (Actor::Blob(push), _) => push.clone().steps(&mut turn),
            (Actor::Delete(delete), _) => delete.clone().steps(&mut turn),
            (Actor::Pull(pull), _) => pull.clone().steps(&mut turn),
            (Actor::Collector(collector), _) => collector.clone().steps(&mut turn),
            (Actor::Answered | Actor::Refused | Actor::Unknown, _) => {}
        }
    }

    /// What happens by itself.
    fn act_of_nobody(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, key) in state.on_their_way.iter().copied().enumerate() {
            let mut turn =
                Turn { protocol: self, state, who: state.actors.len(), lists: &state.store, steps: &mut *actions };
            turn.step("the first try arrives of", Some(key), |next| {
                next.state.on_their_way.remove(at);
                next.arrive(key);
            });
        }
        if state.jumps < self.scenario.jumps {
            let mut turn = Turn { protocol: self, state, who: state.actors.len(), lists: &state.store, steps: actions };
            turn.step("half of the grace passes", None, |next| {
                next.state.jumps += 1;
                next.state.store.grow_older();
                oracle::grow_older(&mut next.state.owed);
                for (who, actor) in next.state.actors.iter_mut().enumerate() {
                    if self.rules.gives_up && next.state.late & (1 << who) != 0 && actor.is_in_flight() {
                        *actor = Actor::Unknown;
                    }
                    next.state.late |= u8::from(actor.is_in_flight()) << who;
                }
            });
        }
    }
}
