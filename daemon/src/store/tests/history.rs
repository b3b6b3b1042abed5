use larder_core::artifact::{DigestTag, TagSuffix};

use super::*;
use crate::store::record::Corruption;

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq).collect()
}

#[tokio::test]
async fn histories_have_what_concerns_them() {
    let (_folder, store) = new_store();
    let (one, two) =
        (image(&store, "one", Some(SubjectRole::Root)).await, image(&store, "two", Some(SubjectRole::Root)).await);
    let app = one.repository.clone();
    let commit = async |event| store.commit(actor(), vec![event]).await.expect("a commit");
    commit(pull(vec![one.clone()], &[("x", Some(one.digest))])).await; // 1
    commit(told(&[&two, &one])).await; // 2, 3
    commit(pull(vec![two.clone()], &[("x", Some(two.digest)), ("y", Some(one.digest))])).await; // 4
    commit(Event::Corruption(Corruption { digest: two.digest, corrupt: true })).await; // 5
    commit(told(&[&one, &two])).await; // 6, 7
    commit(pull(vec![signature_of(&store, &one, "sig").await], &[])).await; // 8
    assert!(store.facts().is_corrupt(two.digest));

    let subject = |digest| HistoryOf::Subject(app.clone(), digest);
    let of = async |of, before, limit| store.history_before(of, before, limit).await.expect("a history");
    assert_eq!(seqs(&of(subject(one.digest), u64::MAX, 99).await), [8, 6, 4, 3, 1]);
    assert_eq!(seqs(&of(subject(two.digest), u64::MAX, 99).await), [7, 5, 4, 2]);
    assert_eq!(seqs(&of(subject(two.digest), 5, 1).await), [4]);
    let only_its_own = of(subject(one.digest), 4, 1).await;
    let Event::VerdictsTold(told) = &only_its_own[0].event else { panic!("a verdict") };
    assert_eq!((told.changes.len(), told.changes[0].digest), (1, one.digest));
    // y named nothing but one, and its history has one's verdicts and no other tag's moves.
    assert_eq!(seqs(&of(HistoryOf::Tag(app.clone(), tag("y")), u64::MAX, 99).await), [6, 4, 3]);
    assert_eq!(seqs(&of(HistoryOf::Tag(app.clone(), tag("x")), u64::MAX, 99).await), [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(seqs(&of(HistoryOf::Tag(app.clone(), tag("x")), 7, 2).await), [6, 5]);
    assert_eq!(seqs(&of(HistoryOf::All, u64::MAX, 99).await), [8, 6, 5, 4, 2, 1]);
    // Between the two verdicts of one record.
    let middle = of(HistoryOf::All, 7, 1).await;
    assert_eq!((middle[0].seq, middle[0].seqs()), (6, 1));
    let middle = store.history_after(6, 1).await.expect("a history");
    assert_eq!((middle[0].seq, middle[0].seqs()), (7, 1));
    assert_eq!(seqs(&store.history_after(4, 99).await.expect("a history")), [5, 6, 8]);
}

#[tokio::test]
async fn the_list_is_paged_and_has_subjects_only() {
    let (_folder, store) = new_store();
    let child = image(&store, "child", Some(SubjectRole::Child)).await;
    let index = index_of(&store, &[&child]).await;
    let alone = image(&store, "alone", Some(SubjectRole::Root)).await;
    let signature = signature_of(&store, &index, "signature").await;
    let reserved = DigestTag { digest: index.digest, suffix: TagSuffix::Signature }.tag().expect("a tag");
    let manifests = vec![child.clone(), index.clone(), alone.clone(), signature.clone()];
    let tags = [("b", Some(index.digest)), ("a", Some(index.digest)), (reserved.as_str(), Some(signature.digest))];
    store.commit(actor(), vec![pull(manifests, &tags)]).await.expect("a commit");
    let mut entries = Vec::new();
    while let Some(next) = store.list(entries.last(), 1).await.expect("a page").pop() {
        entries.push(next);
    }
    let shown: Vec<_> = entries.iter().map(|entry| (entry.tag.as_ref().map(Tag::as_str), entry.digest)).collect();
    assert_eq!(shown, [(Some("a"), index.digest), (Some("b"), index.digest), (None, alone.digest)]);
    let all = store.tags(&index.repository, None, 99).await.expect("tags");
    assert_eq!(all.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>(), ["a", "b", reserved.as_str()]);
    let page = store.tags(&index.repository, Some("a"), 1).await.expect("tags");
    assert_eq!(page[0].0.as_str(), "b");
    // The child is asked for by itself: it shows. A tag goes: the index shows without it.
    let child = ManifestAdded { subject: Some(SubjectRole::Root), ..child };
    let event = pull(vec![child.clone()], &[("a", None), ("b", Some(child.digest))]);
    store.commit(actor(), vec![event]).await.expect("a commit");
    let mut expected = [(None, alone.digest), (None, index.digest)];
    expected.sort_by_key(|(_, digest)| *digest);
    let shown: Vec<_> =
        store.list(None, 9).await.expect("a list").into_iter().map(|entry| (entry.tag, entry.digest)).collect();
    assert_eq!(shown[0], (Some(tag("b")), child.digest));
    assert_eq!(shown[1..], expected);
}
