//! Where the chunks of a pack begin and end, found out from a snapshot that uses it.
//!
//! The same stream, cut again with the same keys and parameters, has the same chunks. Its extents in the packs of that
//! second cutting, laid beside the manifest's extents, say which run of the old pack is which run of a new one; and of the
//! new one the chunks are known.

use hah_vault_format::limits::{CHUNK_LEN_BYTES_MAX, PACK_CHUNKS_MAX};
use hah_vault_format::manifest::Extent;
use std::collections::BTreeSet;

/// Chunk boundaries of one new pack: 0, and the end of each chunk.
pub(super) type Ends = Vec<u32>;

/// Adds the cuts that one list of extents (the stream's, or the notes') shows of pack number `pack`. `new` are the
/// extents of the second cutting of the same bytes, `ends` the boundaries of its packs.
pub(super) fn add(cuts: &mut BTreeSet<u32>, old: &[Extent], pack: u32, new: &[Extent], ends: &[Ends]) {
    let (mut old, mut new) = (old.iter().copied(), new.iter().copied());
    let (mut a, mut b) = (old.next(), new.next());
    while let (Some(mut was), Some(mut is)) = (a, b) {
        let len = was.len_bytes.min(is.len_bytes);
        if was.pack == pack {
            cuts.extend([was.offset_bytes, was.offset_bytes.saturating_add(len)]);
            let ends = ends.get(is.pack as usize).map_or(&[][..], Vec::as_slice);
            let from = ends.partition_point(|end| *end <= is.offset_bytes);
            let inside = ends.iter().skip(from).map(|end| end - is.offset_bytes).take_while(|at| *at < len);
            cuts.extend(inside.map(|at| was.offset_bytes + at));
        }
        a = if skip(&mut was, len) { Some(was) } else { old.next() };
        b = if skip(&mut is, len) { Some(is) } else { new.next() };
    }
}

/// Goes on within an extent; false at its end.
fn skip(extent: &mut Extent, len_bytes: u32) -> bool {
    extent.offset_bytes += len_bytes;
    extent.len_bytes -= len_bytes;
    extent.len_bytes > 0
}

/// The lengths of chunks with these cuts; what no snapshot uses is cut where it must be.
pub(super) fn lens(cuts: &BTreeSet<u32>, plaintext_len_bytes: u32) -> Vec<u32> {
    let mut lens = Vec::with_capacity(cuts.len() + 1);
    let mut at = 0;
    let ends = cuts.iter().copied().filter(|cut| *cut < plaintext_len_bytes).chain([plaintext_len_bytes]);
    for end in ends {
        while at < end {
            let len = (end - at).min(CHUNK_LEN_BYTES_MAX);
            lens.push(len);
            at += len;
        }
    }
    if lens.len() > PACK_CHUNKS_MAX as usize {
        // No writer cuts like this: any table will do that is one.
        return self::lens(&BTreeSet::new(), plaintext_len_bytes);
    }
    lens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent(pack: u32, offset_bytes: u32, len_bytes: u32) -> Extent {
        Extent { pack, offset_bytes, len_bytes }
    }

    #[test]
    fn cuts_of_the_new_packs_are_moved_to_where_the_old_one_has_the_same_bytes() {
        // Old: 100 bytes of pack 1 from 50, then 30 of pack 0, then 20 of pack 1 from 0.
        let old = [extent(1, 50, 100), extent(0, 7, 30), extent(1, 0, 20)];
        // New: all in two packs, chunks of 40, 60 | 30, 5, 15.
        let new = [extent(0, 0, 100), extent(1, 0, 50)];
        let ends = [vec![0, 40, 100], vec![0, 30, 35, 50]];
        let mut cuts = BTreeSet::new();
        add(&mut cuts, &old, 1, &new, &ends);
        assert_eq!(cuts, BTreeSet::from([0, 5, 20, 50, 90, 150]));
        assert_eq!(lens(&cuts, 150), [5, 15, 30, 40, 60]);
        assert_eq!(lens(&cuts, 160), [5, 15, 30, 40, 60, 10]);
    }

    proptest! {
        #[test]
        fn any_cuts_make_a_table_of_the_whole_pack(cuts: BTreeSet<u32>, len in 1u32..=8 << 20) {
            let lens = lens(&cuts, len);
            prop_assert_eq!(lens.iter().sum::<u32>(), len);
            prop_assert!(lens.iter().all(|len| (1..=CHUNK_LEN_BYTES_MAX).contains(len)));
            prop_assert!(lens.len() <= PACK_CHUNKS_MAX as usize);
        }

        #[test]
        fn any_extents_are_taken(
            old in proptest::collection::vec((0u32..4, 0u32..1000, 1u32..1000), 0..20),
            new in proptest::collection::vec((0u32..4, 0u32..1000, 1u32..1000), 0..20),
            ends in proptest::collection::vec(proptest::collection::btree_set(0u32..2000, 0..20), 0..4),
        ) {
            let list = |all: Vec<(u32, u32, u32)>| all.into_iter().map(|(p, o, l)| extent(p, o, l)).collect::<Vec<_>>();
            let ends: Vec<Ends> = ends.into_iter().map(|set| set.into_iter().collect()).collect();
            let mut cuts = BTreeSet::new();
            add(&mut cuts, &list(old), 1, &list(new), &ends);
            prop_assert!(cuts.iter().all(|cut| *cut <= 2000));
        }
    }
}
