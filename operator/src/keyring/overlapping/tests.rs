//! Whatever the order in which pods and nodes hear of it, no node presents what a pod refuses.

use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms {
    life: SignedDuration::from_hours(24),
    overlap: SignedDuration::from_hours(1),
    patience: SignedDuration::from_hours(12),
};
const FEARED: Terms = Terms { overlap: SignedDuration::from_mins(2), patience: SignedDuration::from_hours(1), ..TERMS };
/// A kubelet brings what was written within this time.
const PROPAGATION: SignedDuration = SignedDuration::from_mins(2);

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time goes by, in minutes.
    Pass(i64),
    /// The kubelet brings a pod what was written last.
    Pod(usize),
    /// A pod answers the operator no longer, or answers again.
    Silence(usize),
    /// A node hears what is presented now.
    Node(usize),
    /// Somebody fears that others know it.
    Ask,
    /// What is stored can, or cannot, be written to where pods read it.
    Writable(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..50_i64).prop_map(Event::Pass),
        1 => (60..1500_i64).prop_map(Event::Pass),
        6 => (0..3_usize).prop_map(Event::Pod),
        2 => (0..3_usize).prop_map(Event::Silence),
        6 => (0..3_usize).prop_map(Event::Node),
        1 => Just(Event::Ask),
        1 => any::<bool>().prop_map(Event::Writable),
    ]
}

struct Pod {
    accepts: Vec<String>,
    /// Since when it has not what was written.
    late: Option<Timestamp>,
    /// Since when it does not answer.
    silent: Option<Timestamp>,
}

struct World {
    secret: Overlapping,
    now: Timestamp,
    /// The Secret that pods read, and since when it is so.
    written: Vec<String>,
    written_at: Timestamp,
    writable: bool,
    feared: bool,
    asked: bool,
    pods: Vec<Pod>,
    /// What each node presents, and since when that is not what it should.
    nodes: Vec<(String, Option<Timestamp>)>,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let secret = Overlapping::new(now).unwrap();
        let written: Vec<String> = secret.accepted().map(Into::into).collect();
        let pod = || Pod { accepts: written.clone(), late: None, silent: None };
        let nodes = vec![(secret.active().to_owned(), None); 3];
        let pods = vec![pod(), pod(), pod()];
        Self { pods, nodes, secret, now, written, written_at: now, writable: true, feared: false, asked: false }
    }

    fn accepted(&self) -> Vec<String> {
        self.secret.accepted().map(Into::into).collect()
    }

    fn acceptance(&self) -> Acceptance {
        let current = self.accepted();
        if self.written != current {
            return Acceptance::NotYet;
        }
        let answer = |pod: &Pod| match pod.silent {
            Some(since) if self.now >= since + SignedDuration::from_hours(1) => Acceptance::Unheard,
            Some(_) => Acceptance::NotYet,
            None if pod.accepts == current => Acceptance::Everyone,
            None => Acceptance::NotYet,
        };
        match self.pods.iter().map(answer).max().unwrap() {
            Acceptance::Unheard if self.now < self.written_at + PROPAGATION => Acceptance::NotYet,
            acceptance => acceptance,
        }
    }

    /// A pass of the operator.
    fn advance(&mut self) {
        let unused = self.nodes.iter().all(|(presented, _)| presented == self.secret.active());
        let terms = if self.feared { FEARED } else { TERMS };
        let turns = self.secret.advance(self.now, &terms, self.acceptance(), unused, self.asked).unwrap();
        self.asked &= !turns.contains(&Turn::Incoming);
        self.feared &= self.asked || !self.secret.is_settled();
        if self.writable && self.written != self.accepted() {
            (self.written, self.written_at) = (self.accepted(), self.now);
            self.pods.iter_mut().for_each(|pod| {
                pod.late.get_or_insert(self.now);
            });
        }
        for (presented, late) in &mut self.nodes {
            *late = if presented == self.secret.active() { None } else { Some(late.unwrap_or(self.now)) };
        }
    }

    /// A minute, in which nobody is later than is promised: a pod that does not answer than its kubelet, a node than the
    /// shortest patience.
    fn minute(&mut self) {
        self.now += SignedDuration::from_mins(1);
        for pod in 0..self.pods.len() {
            let Pod { late, silent, .. } = self.pods[pod];
            if silent.is_some() && late.is_some_and(|late| self.now >= late + PROPAGATION) {
                self.bring(pod);
            }
        }
        for node in &mut self.nodes {
            if node.1.is_some_and(|late| self.now >= late + SignedDuration::from_mins(59)) {
                *node = (self.secret.active().to_owned(), None);
            }
        }
        self.advance();
    }

    fn bring(&mut self, pod: usize) {
        self.pods[pod].accepts.clone_from(&self.written);
        self.pods[pod].late = None;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Pass(minutes) => (0..minutes).for_each(|_| self.minute()),
            Event::Pod(pod) => self.bring(pod),
            Event::Silence(pod) => {
                let silent = &mut self.pods[pod].silent;
                *silent = if silent.is_some() { None } else { Some(self.now) };
            }
            Event::Node(node) => self.nodes[node] = (self.secret.active().to_owned(), None),
            Event::Ask => (self.asked, self.feared) = (true, true),
            Event::Writable(writable) => self.writable = writable,
        }
        self.advance();
    }

    fn refused(&self) -> Option<&str> {
        let presented = self.nodes.iter().map(|(presented, _)| presented.as_str());
        presented.into_iter().find(|presented| self.pods.iter().any(|pod| !pod.accepts.iter().any(|a| a == presented)))
    }
}

proptest! {
    #[test]
    fn no_node_presents_what_a_pod_refuses(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            prop_assert_eq!(world.refused(), None, "after {:?}", event);
        }
    }

    #[test]
    fn whatever_happened_before_what_is_feared_is_refused_ten_minutes_after_everyone_hears(
        events in proptest::collection::vec(event(), 0..60)
    ) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.happen(event));
        world.happen(Event::Writable(true));
        world.pods.iter_mut().for_each(|pod| pod.silent = None);
        let feared = world.secret.active().to_owned();
        world.happen(Event::Ask);
        for _ in 0..10 {
            (0..3).for_each(|each| world.happen(Event::Pod(each)));
            (0..3).for_each(|each| world.happen(Event::Node(each)));
            world.happen(Event::Pass(1));
        }
        (0..3).for_each(|each| world.happen(Event::Pod(each)));
        prop_assert!(world.pods.iter().all(|pod| !pod.accepts.contains(&feared)), "the feared one is still accepted");
    }
}
