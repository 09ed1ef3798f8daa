//! The configurations. Each asks one question and is small enough to be searched to the end.

use crate::key::{Digest, Key, Repo, Tag};
use crate::rules::{Content, Request, Scenario};
use crate::store::Target;

mod network;

pub(crate) use network::{
    network_delete, network_duplicate_links, network_index, network_mount, network_put, network_put_with_cached_lookups,
};

const A: Repo = 0;
const B: Repo = 1;
const T: Tag = 0;

const X: Digest = 0;
const Y: Digest = 1;
/// A manifest with the blob X.
const M: Digest = 2;
/// An index with the child M.
const I: Digest = 3;
/// Manifests without children; S has the subject E.
const E: Digest = 4;
const F: Digest = 5;
const S: Digest = 6;
/// A manifest with the blobs X and Y.
const N: Digest = 7;
/// An index with the child I, which is an index.
const J: Digest = 8;
/// A manifest with the blob Y and the subject M.
const R: Digest = 9;

const CONTENTS: &[Content] = &[
    Content::Blob,
    Content::Blob,
    Content::Manifest { children: &[X], subject: None },
    Content::Manifest { children: &[M], subject: None },
    Content::Manifest { children: &[], subject: None },
    Content::Manifest { children: &[], subject: None },
    Content::Manifest { children: &[], subject: Some(E) },
    Content::Manifest { children: &[X, Y], subject: None },
    Content::Manifest { children: &[I], subject: None },
    Content::Manifest { children: &[Y], subject: Some(M) },
];

const COLLECT: Request = Request::Collect { runs: 1 };

fn scenario(name: &'static str, keys: &[Key], requests: &[Request]) -> Scenario {
    Scenario { name, contents: CONTENTS, keys: keys.to_vec(), requests: requests.to_vec(), ..Scenario::default() }
}

/// X is in A, and nothing uses it.
fn old_blob() -> Vec<Key> {
    vec![Key::Link(A, X, 1, 1), Key::Data(1)]
}

/// M is in A with X.
fn old_manifest() -> Vec<Key> {
    [old_blob(), vec![Key::Record(A, M, 1)]].concat()
}

fn tagged(mut scenario: Scenario, digest: Digest) -> Scenario {
    scenario.keys.extend([Key::Record(A, digest, 1), Key::BackReference(A, digest, T, 1)]);
    scenario.tags.push((A, T, Target { digest, record: 1 }));
    scenario
}

/// A manifest is put over an old blob while two collectors work.
pub(crate) fn put_and_two_collectors() -> Scenario {
    scenario("put, two collectors", &old_blob(), &[Request::Put { repo: A, digest: M, tags: &[] }, COLLECT, COLLECT])
}

/// Two manifests over two old blobs.
pub(crate) fn two_puts() -> Scenario {
    let keys = [old_blob(), vec![Key::Link(A, Y, 2, 2), Key::Data(2)]].concat();
    let puts =
        [Request::Put { repo: A, digest: N, tags: &[T] }, Request::Put { repo: A, digest: M, tags: &[T] }, COLLECT];
    scenario("two puts of one tag, collector", &keys, &puts)
}

/// The first mark names everything old, even what is tagged.
pub(crate) fn torn_first_mark() -> Scenario {
    let scenario =
        scenario("torn first mark", &old_blob(), &[Request::Put { repo: A, digest: M, tags: &[] }, COLLECT, COLLECT]);
    Scenario { wild: true, answered: &[M], ..tagged(scenario, M) }
}

/// A blob is mounted and then named by a manifest in the target.
pub(crate) fn mount_then_put() -> Scenario {
    let requests =
        [Request::Mount { from: A, to: B, digest: X }, Request::Put { repo: B, digest: M, tags: &[] }, COLLECT];
    scenario("mount, put in the target, collector", &old_blob(), &requests)
}

/// The same with two collectors.
pub(crate) fn mount_then_put_and_two_collectors() -> Scenario {
    let mut scenario = mount_then_put();
    scenario.requests.push(COLLECT);
    Scenario { name: "mount, put in the target, two collectors", ..scenario }
}

/// The same, with a put in the source.
pub(crate) fn mount_and_put_in_both() -> Scenario {
    let requests = [
        Request::Put { repo: A, digest: M, tags: &[] },
        Request::Mount { from: A, to: B, digest: X },
        Request::Put { repo: B, digest: M, tags: &[] },
        COLLECT,
    ];
    scenario("put in the source, mount, put in the target, collector", &old_blob(), &requests)
}

/// An upload ends and may adopt an old incarnation.
pub(crate) fn finish_then_put() -> Scenario {
    let requests = [Request::Finish { repo: A, digest: X }, Request::Put { repo: A, digest: M, tags: &[] }, COLLECT];
    scenario("finish with dedupe, put, collector", &old_blob(), &requests)
}

/// An upload ends in one repository and may adopt what another one links, where a client deletes it.
pub(crate) fn finish_from_another() -> Scenario {
    let requests = [
        Request::Finish { repo: B, digest: X },
        Request::DeleteBlob { repo: A, digest: X },
        Request::Put { repo: B, digest: M, tags: &[] },
        COLLECT,
    ];
    scenario("finish with dedupe from another repository, delete it there, put, collector", &old_blob(), &requests)
}

/// The same with two collectors.
pub(crate) fn finish_from_another_and_two_collectors() -> Scenario {
    let mut scenario = finish_from_another();
    scenario.requests.push(COLLECT);
    let name = "finish with dedupe from another repository, delete it there, put, two collectors";
    Scenario { name, ..scenario }
}

/// An upload ends and the blob is deleted.
pub(crate) fn finish_and_delete() -> Scenario {
    let requests = [Request::Finish { repo: A, digest: X }, Request::DeleteBlob { repo: A, digest: X }, COLLECT];
    Scenario { jumps: 2, ..scenario("finish, delete blob, collector", &[], &requests) }
}

/// A client deletes a manifest that a collector has named and must spare.
pub(crate) fn delete_what_is_spared() -> Scenario {
    let requests = [Request::DeleteManifest { repo: A, digest: M }, Request::Collect { runs: 2 }];
    let scenario = scenario("torn first mark, delete, collector twice", &old_blob(), &requests);
    Scenario { wild: true, answered: &[M], ..tagged(scenario, M) }
}

/// The same for its blob.
pub(crate) fn delete_the_blob_that_is_spared() -> Scenario {
    let mut scenario = delete_what_is_spared();
    scenario.requests[0] = Request::DeleteBlob { repo: A, digest: X };
    Scenario { name: "torn first mark, delete blob, collector twice", ..scenario }
}

/// A client deletes the blob while a manifest is put over it.
pub(crate) fn delete_blob() -> Scenario {
    let requests =
        [Request::DeleteBlob { repo: A, digest: X }, Request::Put { repo: A, digest: M, tags: &[] }, COLLECT];
    scenario("delete blob, put, collector", &old_blob(), &requests)
}

/// The same, and the blob comes again.
pub(crate) fn delete_blob_and_finish() -> Scenario {
    let mut scenario = delete_blob();
    scenario.requests.push(Request::Finish { repo: A, digest: X });
    Scenario { name: "delete blob, put, finish, collector", ..scenario }
}

/// An index is put over a manifest that nobody tagged, and untagged manifests go.
pub(crate) fn index_over_untagged() -> Scenario {
    let requests = [Request::Put { repo: A, digest: I, tags: &[T] }, COLLECT, COLLECT];
    Scenario {
        untagged_go: true,
        ..scenario("index over an untagged child, two collectors", &old_manifest(), &requests)
    }
}

/// The same, and the child is put again.
pub(crate) fn index_and_child() -> Scenario {
    let requests = [
        Request::Put { repo: A, digest: I, tags: &[T] },
        Request::Put { repo: A, digest: M, tags: &[] },
        Request::Collect { runs: 2 },
    ];
    let name = "index over an untagged child that is put again, collector twice";
    Scenario { untagged_go: true, ..scenario(name, &old_manifest(), &requests) }
}

/// An index is put over an index over a manifest, none of them tagged.
pub(crate) fn nested_index() -> Scenario {
    let requests = [Request::Put { repo: A, digest: J, tags: &[T] }, COLLECT];
    let keys = [old_manifest(), vec![Key::Record(A, I, 1)]].concat();
    Scenario {
        untagged_go: true,
        wild: true,
        ..scenario("index over an untagged index, torn first mark", &keys, &requests)
    }
}

/// The same, while the innermost child is put again, and the collector runs twice.
pub(crate) fn nested_index_and_child() -> Scenario {
    let mut scenario = nested_index();
    scenario.requests.insert(1, Request::Put { repo: A, digest: M, tags: &[] });
    scenario.requests[2] = Request::Collect { runs: 2 };
    Scenario { name: "index over an untagged index, manifest put again, collector twice", wild: false, ..scenario }
}

/// The same, with two collectors.
pub(crate) fn nested_index_and_two_collectors() -> Scenario {
    let mut scenario = nested_index();
    scenario.requests.push(COLLECT);
    Scenario { name: "index over an untagged index, two collectors", wild: false, ..scenario }
}

/// An index is put while its child is being put, and the child's put may be refused.
pub(crate) fn index_over_a_put() -> Scenario {
    let requests = [
        Request::Put { repo: A, digest: M, tags: &[] },
        Request::Put { repo: A, digest: I, tags: &[] },
        Request::DeleteBlob { repo: A, digest: X },
        COLLECT,
    ];
    scenario("child and index are put at once, delete blob, collector", &old_blob(), &requests)
}

/// Clients delete the child or the index while an index is put.
pub(crate) fn index_and_delete_child() -> Scenario {
    let requests =
        [Request::Put { repo: A, digest: I, tags: &[] }, Request::DeleteManifest { repo: A, digest: M }, COLLECT];
    Scenario {
        untagged_go: true,
        answered: &[M],
        ..scenario("index is put, its child deleted, collector", &old_manifest(), &requests)
    }
}

/// A tag moves from E to F while E is deleted by digest, the tag is deleted, and E is put again without a tag.
pub(crate) fn tag_moves() -> Scenario {
    let requests = [
        Request::Put { repo: A, digest: F, tags: &[T] },
        Request::DeleteManifest { repo: A, digest: E },
        Request::DeleteTag { repo: A, tag: T },
        Request::Put { repo: A, digest: E, tags: &[] },
    ];
    Scenario {
        answered: &[E],
        ..tagged(scenario("tag moves, delete by digest, delete tag, put again", &[], &requests), E)
    }
}

/// A manifest is deleted while it is put again with its tag, and once more without.
pub(crate) fn put_again_during_delete() -> Scenario {
    let requests = [
        Request::DeleteManifest { repo: A, digest: E },
        Request::Put { repo: A, digest: E, tags: &[T] },
        Request::Put { repo: A, digest: E, tags: &[] },
        COLLECT,
    ];
    Scenario {
        untagged_go: true,
        answered: &[E],
        ..tagged(scenario("put again with and without tag during delete, collector", &[], &requests), E)
    }
}

/// A manifest with a blob is deleted, put again and collected.
pub(crate) fn delete_then_collect() -> Scenario {
    let requests = [
        Request::DeleteManifest { repo: A, digest: M },
        Request::Put { repo: A, digest: M, tags: &[T] },
        Request::Collect { runs: 2 },
    ];
    Scenario { answered: &[M], ..tagged(scenario("delete, put again, collector twice", &old_blob(), &requests), M) }
}

/// A referrer is put while its subject is deleted and put again.
pub(crate) fn referrer() -> Scenario {
    let requests = [
        Request::Put { repo: A, digest: S, tags: &[] },
        Request::DeleteManifest { repo: A, digest: E },
        Request::Put { repo: A, digest: E, tags: &[T] },
        COLLECT,
    ];
    Scenario {
        untagged_go: true,
        answered: &[E],
        ..tagged(scenario("referrer, subject deleted and put again, collector", &[], &requests), E)
    }
}

/// An index holds a manifest, which holds its referrer. The index loses its tag and gets it back.
pub(crate) fn index_and_referrer() -> Scenario {
    let keys =
        [old_manifest(), vec![Key::Link(A, Y, 2, 2), Key::Data(2), Key::Record(A, R, 2), Key::Referrer(A, M, R, 2)]]
            .concat();
    let requests = [
        Request::DeleteTag { repo: A, tag: T },
        Request::Put { repo: A, digest: I, tags: &[T] },
        Request::Collect { runs: 3 },
    ];
    Scenario {
        untagged_go: true,
        answered: &[M, R],
        ..tagged(
            scenario("index with a referrer of its manifest, tag deleted and put again, collector", &keys, &requests),
            I,
        )
    }
}

/// The same, and the referrer is put again too.
pub(crate) fn index_and_referrer_and_two_puts() -> Scenario {
    let mut scenario = index_and_referrer();
    scenario.requests.push(Request::Put { repo: A, digest: R, tags: &[] });
    Scenario { name: "index with a referrer of its manifest, both put again, collector", ..scenario }
}

/// A referrer is deleted while it is put again.
pub(crate) fn delete_referrer() -> Scenario {
    let keys = [Key::Record(A, S, 2), Key::Referrer(A, E, S, 2)];
    let requests = [
        Request::Put { repo: A, digest: S, tags: &[] },
        Request::DeleteManifest { repo: A, digest: S },
        Request::Collect { runs: 2 },
    ];
    Scenario {
        untagged_go: true,
        answered: &[E],
        ..tagged(scenario("referrer deleted and put again, collector", &keys, &requests), E)
    }
}

/// A referrer that was answered is put again.
pub(crate) fn referrer_again() -> Scenario {
    let keys = [Key::Record(A, S, 2), Key::Referrer(A, E, S, 2)];
    let requests = [Request::Put { repo: A, digest: S, tags: &[] }, COLLECT, COLLECT];
    Scenario { answered: &[E, S], ..tagged(scenario("referrer put again, two collectors", &keys, &requests), E) }
}

/// The same, and the put stalls for longer than the grace.
pub(crate) fn referrer_again_and_late() -> Scenario {
    let mut scenario = referrer_again();
    scenario.requests.pop();
    Scenario { name: "referrer put again stalls beyond the grace, collector", jumps: 2, ..scenario }
}

/// A tag moves from F to E, which was pushed before without a tag, while E is deleted.
pub(crate) fn tag_moves_to_what_is_deleted() -> Scenario {
    let requests =
        [Request::Put { repo: A, digest: E, tags: &[T] }, Request::DeleteManifest { repo: A, digest: E }, COLLECT];
    Scenario {
        untagged_go: true,
        jumps: 2,
        answered: &[F],
        ..tagged(scenario("tag moves to what is deleted, collector", &[Key::Record(A, E, 2)], &requests), F)
    }
}

/// Two records of one manifest: each collector may choose the other one to stay.
pub(crate) fn duplicate_records() -> Scenario {
    let keys = [old_manifest(), vec![Key::Record(A, M, 2)]].concat();
    Scenario { wild: true, answered: &[M], ..scenario("duplicate records, two collectors", &keys, &[COLLECT, COLLECT]) }
}

/// Two links of one blob, which a manifest names.
pub(crate) fn duplicate_links() -> Scenario {
    let keys = [old_manifest(), vec![Key::Link(A, X, 2, 2), Key::Data(2)]].concat();
    Scenario { wild: true, answered: &[M], ..scenario("duplicate links, two collectors", &keys, &[COLLECT, COLLECT]) }
}

/// The same, and the blob comes again.
pub(crate) fn duplicate_links_and_finish() -> Scenario {
    let mut scenario = duplicate_links();
    scenario.requests.push(Request::Finish { repo: A, digest: X });
    Scenario { name: "duplicate links, finish, two collectors", ..scenario }
}

/// Both.
pub(crate) fn duplicates() -> Scenario {
    let keys = [old_manifest(), vec![Key::Record(A, M, 2), Key::Link(A, X, 2, 2), Key::Data(2)]].concat();
    let requests = [Request::Put { repo: A, digest: I, tags: &[] }, COLLECT, COLLECT];
    Scenario { wild: true, answered: &[M], ..scenario("duplicates of both, index, two collectors", &keys, &requests) }
}

/// Duplicates while the manifest is put once more.
pub(crate) fn duplicates_and_put() -> Scenario {
    let keys = [old_blob(), vec![Key::Record(A, M, 2), Key::Link(A, X, 2, 2), Key::Data(2)]].concat();
    let requests = [Request::Put { repo: A, digest: M, tags: &[T] }, COLLECT, COLLECT];
    Scenario { answered: &[M], ..tagged(scenario("duplicates, put again, two collectors", &keys, &requests), M) }
}

/// Requests stall for longer than the grace. Untagged manifests go.
pub(crate) fn stalled_put() -> Scenario {
    let requests = [Request::Put { repo: A, digest: M, tags: &[T] }, Request::Collect { runs: 2 }];
    Scenario {
        untagged_go: true,
        jumps: 2,
        ..scenario("put stalls beyond the grace, collector twice", &old_blob(), &requests)
    }
}

/// The same for an upload and a manifest that names it.
pub(crate) fn stalled_finish() -> Scenario {
    let requests = [Request::Finish { repo: A, digest: X }, Request::Put { repo: A, digest: M, tags: &[] }, COLLECT];
    Scenario { jumps: 2, ..scenario("finish and put stall beyond the grace, collector", &[], &requests) }
}

/// The same for a mount.
pub(crate) fn stalled_mount() -> Scenario {
    let requests = [Request::Mount { from: A, to: B, digest: X }, Request::Collect { runs: 2 }];
    Scenario { jumps: 2, ..scenario("mount stalls beyond the grace, collector twice", &old_blob(), &requests) }
}

/// The same with two collectors.
pub(crate) fn stalled_mount_and_two_collectors() -> Scenario {
    let requests = [Request::Mount { from: A, to: B, digest: X }, COLLECT, COLLECT];
    Scenario { jumps: 2, ..scenario("mount stalls beyond the grace, two collectors", &old_blob(), &requests) }
}

/// An upload may answer for a young link of another one.
pub(crate) fn young_link() -> Scenario {
    let requests = [Request::Finish { repo: A, digest: X }, Request::Finish { repo: A, digest: X }, COLLECT];
    Scenario { jumps: 2, ..scenario("two uploads of one blob, collector", &[], &requests) }
}

/// A reader follows a tag while the manifest is put again and duplicates are collected.
pub(crate) fn pull() -> Scenario {
    let keys = [old_blob(), vec![Key::Record(A, M, 2), Key::Link(A, X, 2, 2), Key::Data(2)]].concat();
    let requests = [
        Request::Pull { repo: A, tag: T },
        Request::Put { repo: A, digest: M, tags: &[T] },
        Request::Collect { runs: 2 },
    ];
    Scenario { answered: &[M], ..tagged(scenario("pull, put again, collector twice", &keys, &requests), M) }
}

/// The same, and the blob comes again too.
pub(crate) fn pull_while_all_comes_again() -> Scenario {
    let mut scenario = pull();
    scenario.requests.push(Request::Finish { repo: A, digest: X });
    Scenario { name: "pull, put again, finish, collector twice", ..scenario }
}

/// Two puts of one manifest, and two collectors.
pub(crate) fn two_puts_and_two_collectors() -> Scenario {
    let put = Request::Put { repo: A, digest: M, tags: &[T] };
    scenario("the manifest put twice, two collectors", &old_blob(), &[put, put, COLLECT, COLLECT])
}

/// An index, its child put again, two collectors.
pub(crate) fn index_and_child_and_two_collectors() -> Scenario {
    let mut scenario = index_and_child();
    scenario.requests.push(COLLECT);
    Scenario { name: "index over an untagged child that is put again, two collectors", ..scenario }
}

/// The index and the child are put at once, clients delete the blob and the child.
pub(crate) fn index_and_all_deletions() -> Scenario {
    let mut scenario = index_over_a_put();
    scenario.requests.push(Request::DeleteManifest { repo: A, digest: M });
    let name = "child and index are put at once, delete blob, delete child, collector";
    Scenario { name, untagged_go: true, ..scenario }
}

/// A whole push by digest and tag, a mount elsewhere, and a collector, over a grace that passes.
pub(crate) fn stalled_push_and_mount() -> Scenario {
    let requests = [
        Request::Finish { repo: A, digest: X },
        Request::Put { repo: A, digest: M, tags: &[T] },
        Request::Mount { from: A, to: B, digest: X },
        COLLECT,
    ];
    Scenario {
        untagged_go: true,
        jumps: 2,
        ..scenario("finish, put, mount stall beyond the grace, collector", &old_blob(), &requests)
    }
}

/// Every way to make a tag vanish, with collectors.
pub(crate) fn tags_and_collectors() -> Scenario {
    let mut scenario = tag_moves();
    scenario.requests.extend([Request::Collect { runs: 2 }]);
    Scenario {
        name: "tag moves, delete by digest, delete tag, put again, collector twice",
        untagged_go: true,
        ..scenario
    }
}
