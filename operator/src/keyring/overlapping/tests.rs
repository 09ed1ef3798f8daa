//! Whatever the order in which pods and nodes hear of it, no node presents what a pod refuses.

use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms {
    life: SignedDuration::from_hours(24),
    overlap: SignedDuration::from_hours(1),
    patience: SignedDuration::from_hours(12),
};
const FEARED: Terms = Terms { overlap: SignedDuration::from_mins(2), patience: SignedDuration::from_hours(1), ..TERMS };

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time goes by, in minutes.
    Pass(i64),
    /// The kubelet brings a pod what is accepted now.
    Pod(usize),
    /// A node hears what is presented now.
    Node(usize),
    /// Somebody asks for another.
    Ask,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..50_i64).prop_map(Event::Pass),
        1 => (60..1500_i64).prop_map(Event::Pass),
        6 => (0..3_usize).prop_map(Event::Pod),
        6 => (0..3_usize).prop_map(Event::Node),
        1 => Just(Event::Ask),
    ]
}

struct World {
    secret: Overlapping,
    now: Timestamp,
    asked: bool,
    /// What each pod accepts.
    pods: Vec<Vec<String>>,
    /// What each node presents, and since when that is not what it should.
    nodes: Vec<(String, Option<Timestamp>)>,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let secret = Overlapping::new(now).unwrap();
        let accepted: Vec<String> = secret.accepted().map(Into::into).collect();
        let nodes = vec![(secret.active().to_owned(), None); 3];
        Self { pods: vec![accepted; 3], nodes, secret, now, asked: false }
    }

    fn accepted(&self) -> Vec<String> {
        self.secret.accepted().map(Into::into).collect()
    }

    /// A pass of the operator.
    fn advance(&mut self) {
        let current = self.accepted();
        let everyone = self.pods.iter().all(|pod| *pod == current);
        let unused = self.nodes.iter().all(|(presented, _)| presented == self.secret.active());
        let acceptance = if everyone { Acceptance::Everyone } else { Acceptance::NotYet };
        let terms = if self.asked { FEARED } else { TERMS };
        let turns = self.secret.advance(self.now, &terms, acceptance, unused, self.asked).unwrap();
        if turns.contains(&Turn::Incoming) {
            self.asked = false;
        }
        for (presented, late) in &mut self.nodes {
            if presented == self.secret.active() {
                *late = None;
            } else {
                late.get_or_insert(self.now);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Pass(minutes) => {
                // A node is late by less than the patience; one that is not may be refused, and that is promised.
                for _ in 0..minutes {
                    self.now += SignedDuration::from_mins(1);
                    let now = self.now;
                    let too_late =
                        |late: &Option<Timestamp>| late.is_some_and(|late| now >= late + SignedDuration::from_mins(59));
                    for node in 0..self.nodes.len() {
                        if too_late(&self.nodes[node].1) {
                            self.nodes[node] = (self.secret.active().to_owned(), None);
                        }
                    }
                    self.advance();
                }
            }
            Event::Pod(pod) => self.pods[pod] = self.accepted(),
            Event::Node(node) => self.nodes[node] = (self.secret.active().to_owned(), None),
            Event::Ask => self.asked = true,
        }
        self.advance();
    }

    fn refused(&self) -> Option<&str> {
        let presented = self.nodes.iter().map(|(presented, _)| presented);
        presented.map(String::as_str).find(|presented| self.pods.iter().any(|pod| !pod.iter().any(|p| p == presented)))
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
    fn whatever_happened_before_a_request_is_fulfilled_when_everyone_hears(
        events in proptest::collection::vec(event(), 0..60)
    ) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.happen(event));
        let feared = world.secret.active().to_owned();
        world.happen(Event::Ask);
        for _ in 0..200 {
            (0..3).for_each(|each| world.happen(Event::Pod(each)));
            (0..3).for_each(|each| world.happen(Event::Node(each)));
            world.happen(Event::Pass(1));
        }
        prop_assert!(!world.asked && world.pods.iter().all(|pod| !pod.contains(&feared)), "the old one is still accepted");
    }
}
