//! Whether there is an order of operations on one key that explains what each of them was answered: each takes effect at one
//! moment between its beginning and its end, and one whose end nobody knows takes effect at some later moment or never.
//!
//! The search is that of Wing and Gong with the memory of Lowe: from each set of operations that are in order, with the value
//! that they leave behind, every operation is tried that no other one ended before. It goes on from each pair of set and value once.
//! Keys are looked at one by one: a history is linearizable if that of each key is (Herlihy and Wing, theorem 1).

use std::collections::{HashMap, HashSet};
use std::fmt;

/// When something happened. No two events have the same time.
pub(crate) type Time = u64;

/// What a key holds: a number for each manifest.
pub(crate) type Value = Option<u8>;

/// What an operation does to a key, or finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// The key has this value afterwards.
    Put(u8),
    /// It has this value or none afterwards.
    PutOrRemove(u8),
    /// It has none, whatever it was.
    Remove,
    /// It has none if it had this one.
    RemoveIf(u8),
    /// It had this one.
    Read(Value),
}

/// Something that a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) effect: Effect,
    pub(crate) start: Time,
    /// `None`: nobody knows whether it was done, nor whether it will be.
    pub(crate) end: Option<Time>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end.map_or("?".to_owned(), |end| end.to_string());
        write!(f, "{}..{end} {:?}", self.start, self.effect)
    }
}

/// What no order explains.
#[derive(Debug)]
pub(crate) struct Violation {
    operations: Vec<Operation>,
    /// The most operations that could be put in order.
    explained: Vec<Operation>,
    value: Value,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, explained) = (self.operations.len(), self.explained.len());
        writeln!(f, "no order explains these {all} operations (at most {explained}, which leave {:?}):", self.value)?;
        for operation in &self.operations {
            let mark = if self.explained.contains(operation) { ' ' } else { '!' };
            writeln!(f, "{mark} {operation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Some of the operations: a bit for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Set(Vec<u64>);

impl Set {
    fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|bits| bits >> (number % 64) & 1 == 1)
    }

    fn and(&self, number: usize) -> Self {
        let mut bits = self.0.clone();
        bits.resize(bits.len().max(number / 64 + 1), 0);
        bits[number / 64] |= 1 << (number % 64);
        Self(bits)
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }

    fn is_part_of(&self, other: &Self) -> bool {
        self.0.iter().enumerate().all(|(at, bits)| bits & !other.0.get(at).copied().unwrap_or_default() == 0)
    }
}

/// Operations that are in order, and what they leave behind.
#[derive(Clone, Debug, Default)]
struct Ordered {
    /// Those that were answered.
    known: Set,
    /// Those of which nobody knows.
    unknown: Set,
    value: Value,
}

/// Where the search has been. What can be explained with some of the operations that nobody knows of can be explained with fewer of
/// them: the others are left for later, or never happened.
#[derive(Default)]
struct Seen(HashMap<(Set, Value), Vec<Set>>);

impl Seen {
    fn is_new(&mut self, ordered: &Ordered) -> bool {
        let with = self.0.entry((ordered.known.clone(), ordered.value)).or_default();
        if with.iter().any(|fewer| fewer.is_part_of(&ordered.unknown)) {
            return false;
        }
        with.retain(|more| !ordered.unknown.is_part_of(more));
        with.push(ordered.unknown.clone());
        true
    }
}

/// Looks for an order of operations on a key that holds nothing at first.
///
/// # Errors
/// When there is none.
pub(crate) fn explain(operations: &[Operation]) -> Result<(), Violation> {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.start);
    let (mut furthest, mut seen, mut ahead) = (Ordered::default(), Seen::default(), vec![Ordered::default()]);
    while let Some(ordered) = ahead.pop() {
        if !seen.is_new(&ordered) {
            continue;
        }
        let Some(next) = next(&operations, &ordered) else { return Ok(()) };
        if ordered.known.len() > furthest.known.len() {
            furthest = ordered;
        }
        ahead.extend(next);
    }
    let is_in = |number: &usize| furthest.known.has(*number) || furthest.unknown.has(*number);
    let explained = (0..operations.len()).filter(is_in).map(|number| operations[number]).collect();
    Err(Violation { explained, value: furthest.value, operations })
}

/// What can come next, the likeliest last. `None`: all that were answered are in order.
fn next(operations: &[Operation], ordered: &Ordered) -> Option<Vec<Ordered>> {
    let is_left = |number: usize| !ordered.known.has(number) && !ordered.unknown.has(number);
    let left = || operations.iter().enumerate().filter(|(number, _)| is_left(*number));
    let first_end = left().filter_map(|(_, operation)| operation.end).min()?;
    let (mut next, mut likelier, mut tried) = (Vec::new(), Vec::new(), HashSet::new());
    for (number, operation) in left().take_while(|(_, operation)| operation.start < first_end) {
        let values: [Option<Value>; 2] = match operation.effect {
            // It changes nothing, so whatever order there is, there is one in which it comes now.
            Effect::Read(read) if read == ordered.value => {
                return Some(vec![Ordered { known: ordered.known.and(number), ..ordered.clone() }]);
            }
            Effect::Read(_) => [None, None],
            Effect::Put(value) => [Some(Some(value)), None],
            Effect::PutOrRemove(value) => [Some(Some(value)), Some(None)],
            Effect::Remove => [Some(None), None],
            Effect::RemoveIf(value) => [Some(ordered.value.filter(|now| *now != value)), None],
        };
        // Of those that nobody knows of, of equal ones the one that began first, and only what makes a difference.
        let comes_first = operation.end.is_some() || tried.insert(operation.effect);
        for value in values.into_iter().flatten() {
            if operation.end.is_some() {
                likelier.push(Ordered { known: ordered.known.and(number), value, ..ordered.clone() });
            } else if comes_first && value != ordered.value {
                next.push(Ordered { unknown: ordered.unknown.and(number), value, ..ordered.clone() });
            }
        }
    }
    next.append(&mut likelier);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::Effect::{Put, PutOrRemove, Read, Remove, RemoveIf};
    use super::*;

    /// Operations by effect, start and end; an end of 0 is one that nobody knows.
    fn is_explained(operations: &[(Effect, Time, Time)]) -> bool {
        let operation = |&(effect, start, end)| Operation { effect, start, end: (end > 0).then_some(end) };
        explain(&operations.iter().map(operation).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn what_comes_one_after_the_other_is_read_in_that_order() {
        assert!(is_explained(&[(Read(None), 1, 2), (Put(1), 3, 4), (Read(Some(1)), 5, 6), (Put(2), 7, 8)]));
        assert!(is_explained(&[(Put(1), 1, 2), (Put(2), 3, 4), (Read(Some(2)), 5, 6)]));
        assert!(!is_explained(&[(Put(1), 1, 2), (Put(2), 3, 4), (Read(Some(1)), 5, 6)]), "an older value");
        assert!(!is_explained(&[(Put(1), 1, 2), (Read(None), 3, 4)]), "a lost write");
        assert!(!is_explained(&[(Put(1), 1, 2), (Read(Some(2)), 3, 4)]), "what nobody wrote");
        assert!(!is_explained(&[(Read(Some(1)), 1, 2), (Put(1), 3, 4)]), "what nobody had written yet");
    }

    #[test]
    fn either_of_two_writes_at_once_may_come_last_but_not_for_one_reader_this_and_for_the_next_one_that() {
        let both = [(Put(1), 1, 10), (Put(2), 2, 9)];
        for value in [1, 2] {
            assert!(is_explained(&[&both[..], &[(Read(Some(value)), 11, 12)]].concat()));
        }
        let turns = [(Read(Some(1)), 11, 12), (Read(Some(2)), 13, 14)];
        assert!(!is_explained(&[&both[..], &turns].concat()), "the value changes when nobody writes");
    }

    #[test]
    fn once_a_new_value_was_read_nobody_reads_the_old_one_while_it_is_still_being_written() {
        let writes = [(Put(1), 1, 2), (Put(2), 3, 20)];
        assert!(is_explained(&[&writes[..], &[(Read(Some(1)), 4, 5), (Read(Some(2)), 6, 7)]].concat()));
        assert!(!is_explained(&[&writes[..], &[(Read(Some(2)), 4, 5), (Read(Some(1)), 6, 7)]].concat()));
    }

    #[test]
    fn what_nobody_knows_the_end_of_happens_once_at_any_later_time_or_never() {
        let lost = [(Put(1), 1, 2), (Put(2), 3, 0)];
        assert!(is_explained(&[&lost[..], &[(Read(Some(1)), 4, 5)]].concat()), "never");
        assert!(is_explained(&[&lost[..], &[(Read(Some(1)), 4, 5), (Read(Some(2)), 90, 91)]].concat()), "late");
        let twice = [(Read(Some(2)), 4, 5), (Put(3), 6, 7), (Read(Some(2)), 8, 9)];
        assert!(!is_explained(&[&lost[..], &twice].concat()), "twice");
        assert!(!is_explained(&[(Read(Some(2)), 1, 2), (Put(2), 3, 0)]), "before it began");
    }

    #[test]
    fn of_equal_writes_that_nobody_knows_the_end_of_each_may_happen_once() {
        let two = [(Put(1), 1, 0), (Put(1), 2, 0)];
        let between = [(Read(Some(1)), 3, 4), (Put(2), 5, 6), (Read(Some(1)), 7, 8)];
        assert!(is_explained(&[&two[..], &between].concat()));
        let more = [(Put(2), 9, 10), (Read(Some(1)), 11, 12)];
        assert!(!is_explained(&[&two[..], &between, &more].concat()));
    }

    #[test]
    fn a_manifest_that_is_deleted_takes_only_a_tag_along_that_names_it() {
        let put = [(Put(1), 1, 2)];
        assert!(is_explained(&[&put[..], &[(RemoveIf(1), 3, 4), (Read(None), 5, 6)]].concat()));
        assert!(!is_explained(&[&put[..], &[(RemoveIf(1), 3, 4), (Read(Some(1)), 5, 6)]].concat()));
        assert!(is_explained(&[&put[..], &[(RemoveIf(2), 3, 4), (Read(Some(1)), 5, 6)]].concat()));
        assert!(!is_explained(&[&put[..], &[(RemoveIf(2), 3, 4), (Read(None), 5, 6)]].concat()));
        let moved = [(RemoveIf(1), 3, 8), (Put(2), 4, 5)];
        assert!(!is_explained(&[&put[..], &moved, &[(Read(None), 9, 10)]].concat()), "it took what had moved on");
        assert!(is_explained(&[&put[..], &moved, &[(Read(Some(2)), 9, 10)]].concat()));
    }

    #[test]
    fn a_tag_that_may_be_put_or_removed_is_one_of_them_and_not_what_it_was() {
        let either = [(Put(1), 1, 2), (PutOrRemove(2), 3, 4)];
        assert!(is_explained(&[&either[..], &[(Read(Some(2)), 5, 6)]].concat()));
        assert!(is_explained(&[&either[..], &[(Read(None), 5, 6)]].concat()));
        assert!(!is_explained(&[&either[..], &[(Read(Some(1)), 5, 6)]].concat()));
        assert!(!is_explained(&[&either[..], &[(Read(None), 5, 6), (Read(Some(2)), 7, 8)]].concat()));
    }

    #[test]
    fn a_tag_that_is_deleted_stays_deleted() {
        assert!(is_explained(&[(Put(1), 1, 2), (Remove, 3, 4), (Read(None), 5, 6)]));
        assert!(!is_explained(&[(Put(1), 1, 2), (Remove, 3, 4), (Read(Some(1)), 5, 6)]));
        assert!(is_explained(&[(Put(1), 1, 2), (Remove, 3, 0), (Read(Some(1)), 5, 6), (Read(None), 7, 8)]));
    }

    #[test]
    fn it_says_the_same_as_whoever_tries_every_order() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut explained = 0;
        for _ in 0..5_000 {
            let mut times: Vec<Time> = (1..=12).collect();
            random.shuffle(&mut times);
            let operation = |pair: &[Time]| {
                let value = random.u8(..2);
                let effect = [Put(value), Remove, RemoveIf(value), Read(Some(value)), Read(None)][random.usize(..5)];
                let is_known = random.u8(..4) > 0;
                Operation { effect, start: pair[0].min(pair[1]), end: is_known.then_some(pair[0].max(pair[1])) }
            };
            let operations: Vec<Operation> = times.chunks(2).map(operation).collect();
            let expected = some_order_of(&operations, &[], None);
            assert_eq!(explain(&operations).is_ok(), expected, "{operations:?}");
            explained += u32::from(expected);
        }
        assert!((500..4_500).contains(&explained), "{explained}: nearly all are alike");
    }

    /// Whether what is left after `done` has an order, by trying them all.
    fn some_order_of(operations: &[Operation], done: &[usize], value: Value) -> bool {
        let left = || (0..operations.len()).filter(|number| !done.contains(number));
        left().all(|number| operations[number].end.is_none())
            || left().any(|number| {
                let Operation { effect, start, .. } = operations[number];
                let after = match effect {
                    Put(put) => Some(put),
                    Remove => None,
                    RemoveIf(named) => value.filter(|now| *now != named),
                    Read(_) | PutOrRemove(_) => value,
                };
                let comes_too_early = left().any(|other| operations[other].end.is_some_and(|end| end < start));
                let is_false = matches!(effect, Read(read) if read != value);
                !comes_too_early && !is_false && some_order_of(operations, &[done, &[number]].concat(), after)
            })
    }

    /// Exchanged answers may be explained too: by what was written meanwhile.
    #[test]
    fn what_an_atomic_register_answers_is_explained_and_with_two_answers_exchanged_it_often_is_not() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut exchanged, mut found_out) = (0, 0);
        for _ in 0..20 {
            let operations = answers_of_a_register(&mut random, 100);
            assert!(explain(&operations).is_ok(), "{}", explain(&operations).unwrap_err());
            let reads: Vec<usize> = (0..operations.len())
                .filter(|n| matches!(operations[*n].effect, Read(Some(_))) && operations[*n].end.is_some())
                .collect();
            for pair in reads.windows(2).filter(|pair| operations[pair[0]].effect != operations[pair[1]].effect) {
                let mut false_ones = operations.clone();
                false_ones[pair[0]].effect = operations[pair[1]].effect;
                false_ones[pair[1]].effect = operations[pair[0]].effect;
                exchanged += 1;
                found_out += u32::from(explain(&false_ones).is_err());
            }
        }
        assert!(exchanged > 100 && found_out * 3 > exchanged, "{found_out} of {exchanged} were found out");
    }

    /// Six clients whose operations take effect at a random moment while they last, every twentieth of which is never answered.
    fn answers_of_a_register(random: &mut fastrand::Rng, count: usize) -> Vec<Operation> {
        let mut at_work: Vec<(Time, Time, Time, Effect)> = Vec::new();
        let mut free = [0; 6];
        for _ in 0..count {
            let client = random.usize(..6);
            let start = free[client] + random.u64(1..20);
            let effect_at = start + random.u64(1..30);
            free[client] = effect_at + random.u64(1..30);
            let effect = match random.u8(..8) {
                0 | 1 => Put(random.u8(..4)),
                2 => Remove,
                3 => RemoveIf(random.u8(..4)),
                _ => Read(None),
            };
            at_work.push((effect_at, start, free[client], effect));
        }
        at_work.sort_by_key(|(effect_at, ..)| *effect_at);
        let mut value = None;
        let answered = at_work.into_iter().enumerate().map(|(number, (_, start, end, effect))| {
            let effect = match effect {
                Put(put) => {
                    value = Some(put);
                    effect
                }
                Remove => {
                    value = None;
                    effect
                }
                RemoveIf(named) => {
                    value = value.filter(|now| *now != named);
                    effect
                }
                Read(_) | PutOrRemove(_) => Read(value),
            };
            // So that no two events have the same time.
            let scale = |time: Time| time * 1000 + number as u64;
            let unknown = random.u8(..20) == 0 && !matches!(effect, Read(_));
            Operation { effect, start: scale(start), end: (!unknown).then(|| scale(end)) }
        });
        answered.collect()
    }
}
