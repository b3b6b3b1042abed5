use std::fs;
use std::ops::ControlFlow;

use jiff::Timestamp;
use larder_core::Digest;
use tempfile::TempDir;

use super::*;
use crate::config::DEFAULT_SEGMENT_BYTES as SEGMENT_BYTES;
use crate::store::error::StoreError;
use crate::store::record::{Actor, Corruption, Event, Record};

fn event(number: u8) -> Event {
    Event::Corruption(Corruption { digest: Digest::of(&[number]), corrupt: number.is_multiple_of(2) })
}

fn append(journal: &mut Journal, numbers: &[u8]) -> Vec<Record> {
    let mut chain = journal.chain();
    let (mut records, mut written) = (Vec::new(), Vec::new());
    for &number in numbers {
        let now = Timestamp::from_second(i64::from(number)).expect("a time");
        let (record, form) = chain.next(now, Actor::daemon(), event(number)).expect("a record");
        records.push(record);
        written.push(form);
    }
    journal.append(&written, chain).expect("a frame");
    records
}

/// A journal of frames with one, two and one records.
fn three_frames() -> (TempDir, Vec<Record>, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    create(folder.path()).expect("a journal");
    let (_, journal) =
        scan(folder.path(), &[], None).expect("a scan").open(folder.path(), SEGMENT_BYTES).expect("a journal");
    let mut journal = journal.expect("a writer");
    let mut records = append(&mut journal, &[1]);
    records.extend(append(&mut journal, &[2, 3]));
    let before_last = journal.end;
    records.extend(append(&mut journal, &[4]));
    (folder, records, before_last)
}

fn only(folder: &TempDir) -> PathBuf {
    scan::segments(folder.path()).expect("segments").pop().expect("a segment")
}

#[test]
fn what_is_written_is_read_back_both_ways() {
    let (folder, records, _) = three_frames();
    let scan = scan(folder.path(), &[0, 3, 9], None).expect("a scan");
    assert_eq!((scan.damage.clone(), scan.chain.seq), (Damage::None, 4));
    assert_eq!(scan.hashes.keys().copied().collect::<std::collections::BTreeSet<_>>(), [0, 3].into());
    let (reader, journal) = scan.open(folder.path(), SEGMENT_BYTES).expect("a journal");
    assert_eq!(reader.after(0, 4, 10).expect("records"), records);
    assert_eq!(reader.after(2, 3, 10).expect("records"), records[2..3]);
    let backwards: Vec<_> = records.iter().rev().cloned().collect();
    assert_eq!(reader.before(u64::MAX, 4, 10).expect("records"), backwards);
    assert_eq!(reader.before(4, 4, 2).expect("records"), backwards[1..3]);
    assert_eq!(reader.at(2, 4).expect("a record"), Some(records[1].clone()));
    assert_eq!(reader.at(5, 4).expect("a record"), None);
    // It goes on where it ended.
    let more = append(&mut journal.expect("a writer"), &[5]);
    assert_eq!(more[0].seq, 5);
    assert_eq!(reader.after(4, 5, 10).expect("records"), more);
}

#[test]
fn times_never_go_back() {
    let (folder, _, _) = three_frames();
    let (_, journal) =
        scan(folder.path(), &[], None).expect("a scan").open(folder.path(), SEGMENT_BYTES).expect("a journal");
    let record = append(&mut journal.expect("a writer"), &[0]).pop().expect("a record");
    assert_eq!(record.time, Timestamp::from_second(4).expect("a time"));
}

#[test]
fn a_tail_torn_anywhere_is_cut_and_no_more() {
    let (folder, records, before_last) = three_frames();
    let path = only(&folder);
    let whole = fs::read(&path).expect("the journal");
    for length in before_last as usize + 1..whole.len() {
        fs::write(&path, &whole[..length]).expect("a torn journal");
        let scan = scan(folder.path(), &[], None).expect("a scan");
        let expected = Damage::Torn { path: path.clone(), offset: before_last, length: length as u64 - before_last };
        assert_eq!(scan.damage, expected, "cut at {length}");
        assert_eq!(scan.chain.seq, 3);
        cut(&path, before_last).expect("the cut");
        let (reader, journal) =
            super::scan(folder.path(), &[], None).expect("a scan").open(folder.path(), SEGMENT_BYTES).expect("it");
        assert_eq!(reader.after(0, 3, 9).expect("records"), records[..3]);
        assert_eq!(append(&mut journal.expect("a writer"), &[9])[0].seq, 4);
    }
    // A tail of zeros, as some file systems leave it.
    let mut zeros = whole[..before_last as usize].to_vec();
    zeros.extend([0; 5000]);
    fs::write(&path, zeros).expect("zeros");
    assert!(matches!(scan(folder.path(), &[], None).expect("a scan").damage, Damage::Torn { .. }));
}

#[test]
fn a_change_anywhere_before_the_last_frame_is_loss() {
    let (folder, _, before_last) = three_frames();
    let path = only(&folder);
    let whole = fs::read(&path).expect("the journal");
    for place in 0..before_last as usize {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x20;
        fs::write(&path, bytes).expect("tampering");
        let scan = scan(folder.path(), &[], None).expect("a scan");
        assert!(matches!(scan.damage, Damage::Loss(_)), "byte {place}: {:?}", scan.damage);
    }
    // A frame that is gone, cleanly.
    let mut bytes = whole[..SEGMENT_HEADER].to_vec();
    bytes.extend_from_slice(&whole[before_last as usize..]);
    fs::write(&path, bytes).expect("a missing frame");
    assert!(matches!(scan(folder.path(), &[], None).expect("a scan").damage, Damage::Loss(_)));
    fs::remove_file(&path).expect("no journal");
    assert!(matches!(scan(folder.path(), &[], None).expect("a scan").damage, Damage::Loss(_)));
}

#[test]
fn an_edit_with_a_right_checksum_breaks_the_chain() {
    let (folder, _, _) = three_frames();
    let path = only(&folder);
    let whole = fs::read(&path).expect("the journal");
    let (_, journal) =
        scan(folder.path(), &[], None).expect("a scan").open(folder.path(), SEGMENT_BYTES).expect("a journal");
    drop(journal);
    // The first record is exchanged for another one, made as a careful forger would.
    let mut chain = Chain::START;
    let now = Timestamp::from_second(1).expect("a time");
    let (_, forged) = chain.next(now, Actor::daemon(), event(77)).expect("a record");
    let forged = frame::frame(&[forged]);
    let mut bytes = whole.clone();
    bytes[SEGMENT_HEADER..SEGMENT_HEADER + forged.len()].copy_from_slice(&forged);
    fs::write(&path, bytes).expect("a forgery");
    let Damage::Loss(why) = scan(folder.path(), &[], None).expect("a scan").damage else { panic!("not seen") };
    assert!(why.contains("chain"), "{why}");
}

#[test]
fn segments_follow_each_other() {
    let (folder, mut records, _) = three_frames();
    let (reader, journal) =
        scan(folder.path(), &[], None).expect("a scan").open(folder.path(), SEGMENT_BYTES).expect("a journal");
    let mut journal = journal.expect("a writer");
    for number in 5..8 {
        journal.end = SEGMENT_BYTES;
        records.extend(append(&mut journal, &[number, number]));
    }
    assert_eq!(scan::segments(folder.path()).expect("segments").len(), 4);
    assert_eq!(reader.after(0, 10, 99).expect("records"), records);
    records.reverse();
    assert_eq!(reader.before(u64::MAX, 10, 99).expect("records"), records);
    let scan = scan(folder.path(), &[], None).expect("a scan");
    assert_eq!((scan.chain, scan.damage.clone()), (journal.chain(), Damage::None));
    let (again, _) = scan.open(folder.path(), SEGMENT_BYTES).expect("a journal");
    assert_eq!(again.at(6, 10).expect("a record"), reader.at(6, 10).expect("a record"));
    // One in the middle is gone.
    fs::remove_file(&scan::segments(folder.path()).expect("segments")[1]).expect("removal");
    assert!(matches!(super::scan(folder.path(), &[], None).expect("a scan").damage, Damage::Loss(_)));
}

#[test]
fn a_walk_can_be_stopped() {
    let (folder, _, _) = three_frames();
    let (reader, _) =
        scan(folder.path(), &[], None).expect("a scan").open(folder.path(), SEGMENT_BYTES).expect("a journal");
    let mut seen = Vec::new();
    reader
        .walk(1, 4, |entry| {
            seen.push(entry.header.seq);
            Ok::<_, StoreError>(if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .expect("a walk");
    assert_eq!(seen, [2, 3]);
}
