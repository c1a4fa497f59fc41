//! The joining rule.

use hah_vault::pipeline::join::{Cuts, Joiner};
use hah_vault::snapshot::records::{Form, Service};

const FORM: Form = Form::Msgpack(Service::Unknown);

/// Lengths in records of the chunks made of `records`.
fn chunks(target_len: u32, records: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut joiner = Joiner::new(&[7; 32], target_len);
    let (mut chunks, mut open) = (Vec::new(), Vec::new());
    for record in records {
        let cuts = joiner.record(FORM, record);
        if cuts.before {
            chunks.push(std::mem::take(&mut open));
        }
        open.push(record.clone());
        if cuts.after {
            chunks.push(std::mem::take(&mut open));
        }
    }
    assert_eq!(joiner.interrupt(), !open.is_empty());
    chunks.extend((!open.is_empty()).then_some(open));
    chunks
}

/// Records of 70 to 99 bytes that differ in their first 64.
fn records() -> Vec<Vec<u8>> {
    (0..4_000_u32)
        .map(|number| {
            let mut record = vec![2; 70 + number as usize % 30];
            record[1..5].copy_from_slice(&number.to_be_bytes());
            record
        })
        .collect()
}

#[test]
fn a_target_of_0_makes_every_record_a_chunk() {
    let mut joiner = Joiner::new(&[0; 32], 0);
    assert_eq!(joiner.record(FORM, &[1, 2]), Cuts { before: false, after: true });
    assert!(!joiner.interrupt());
}

#[test]
fn a_long_record_is_a_chunk_of_its_own() {
    let mut joiner = Joiner::new(&[0; 32], 1_000_000);
    assert_eq!(joiner.record(FORM, &[1]), Cuts { before: false, after: false });
    assert_eq!(joiner.record(FORM, &vec![0; 1_000_000]), Cuts { before: true, after: true });
}

#[test]
fn chunks_have_about_the_target_length() {
    for target_len in [256, 1024] {
        let chunks = chunks(target_len, &records());
        let mean_len = records().concat().len() / chunks.len();
        assert!((target_len as usize * 8 / 10..target_len as usize * 13 / 10).contains(&mean_len), "{mean_len}");
        assert!(chunks.iter().all(|chunk| chunk.concat().len() <= target_len as usize * 8 + 100));
    }
}

#[test]
fn a_changed_value_changes_one_chunk_and_a_new_record_at_most_two() {
    let before = chunks(512, &records());
    let new = |records: &[Vec<u8>]| chunks(512, records).iter().filter(|chunk| !before.contains(chunk)).count();
    for at in (0..4_000).step_by(371) {
        let mut changed = records();
        changed[at][66] ^= 0xff;
        assert_eq!(new(&changed), 1);
        let mut more = records();
        more.insert(at, vec![9; 80]);
        assert!(new(&more) <= 2);
    }
}
