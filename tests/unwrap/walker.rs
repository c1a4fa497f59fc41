//! The tar walker.

use hah_vault::snapshot::tar::{Region, Walker};
use proptest::prelude::*;

use super::archive::{header, members, octal, padded, pax, seal, sums, tar, unwrap, walk, walk_error};
use super::fixtures::fixture;
use hah_vault::pipeline::unwrap::Expect;

const STATE: &[u8] = b"a small state";

/// Sound members, with the content of one replaced.
fn members_with(name: &str, content: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut members = members(STATE);
    members.iter_mut().find(|member| member.0 == name).unwrap().1 = content.to_vec();
    members
}

fn sums_error(sums: &[u8]) -> String {
    walk_error(&tar(&members_with("SHA256SUMS", sums)))
}

/// Offset of a member's header in an archive of small members.
fn header_at(index: usize) -> usize {
    index * 1024
}

#[test]
fn an_archive_is_cut_into_regions() {
    let (summary, runs) = walk([&tar(&members(STATE))[..]]).unwrap();
    assert_eq!(summary.raft.index, 7);
    assert_eq!(summary.raft.term, 2);
    assert_eq!(summary.raft.id, "2-7-1");
    assert_eq!(summary.state_len_bytes, 13);
    assert!(!summary.sealed);
    let regions: Vec<Region> = runs.iter().map(|run| run.0).collect();
    use Region::{Frame, Meta, State, Sums};
    assert_eq!(regions, [Frame, Meta, Frame, State, Frame, Sums, Frame]);
    assert_eq!(runs[3], (State, 13));
}

#[test]
fn members_may_come_in_any_order_and_sealed_may_be_there() {
    let mut members = members(STATE);
    members.push(("SHA256SUMS.sealed", b"sealed".to_vec()));
    members.reverse();
    let (summary, _) = walk([&tar(&members)[..]]).unwrap();
    assert!(summary.sealed);
}

#[test]
fn an_empty_state_is_sound() {
    assert_eq!(walk([&tar(&members(b""))[..]]).unwrap().0.state_len_bytes, 0);
}

#[test]
fn missing_members_are_named() {
    for (index, name) in ["meta.json", "state.bin", "SHA256SUMS"].into_iter().enumerate() {
        let mut members = members(STATE);
        members.remove(index);
        assert_eq!(walk_error(&tar(&members)), format!("{name} is missing from the archive"));
    }
    assert_eq!(walk_error(&[0; 1024]), "meta.json is missing from the archive");
    assert_eq!(walk_error(b""), "archive ends without its end marker");
}

#[test]
fn duplicate_members_are_named() {
    for index in 0..3 {
        let mut members = members(STATE);
        let again = members[index].clone();
        members.push(again);
        assert_eq!(walk_error(&tar(&members)), format!("{} is in the archive twice", members[index].0));
    }
}

#[test]
fn unknown_members_are_named() {
    for name in ["peers.json", "state.bin2", "x/state.bin", "META.JSON"] {
        let mut members = members(STATE);
        members.push((name, vec![]));
        assert_eq!(walk_error(&tar(&members)), format!("unexpected file {name:?} in the snapshot"));
    }
}

#[test]
fn wrong_sizes_and_hashes_are_named() {
    let meta = super::archive::meta_json(12);
    let mut wrong = members_with("meta.json", &meta);
    wrong[2].1 = sums(&meta, STATE);
    assert_eq!(walk_error(&tar(&wrong)), "state.bin has 13 bytes, meta.json says 12");
    assert_eq!(
        walk_error(&tar(&members_with("state.bin", b"another state"))),
        "state.bin: sha256 differs from SHA256SUMS"
    );
    assert_eq!(walk_error(&tar(&members_with("meta.json", b"{}"))), "meta.json: sha256 differs from SHA256SUMS");
    for meta in [&b"{}"[..], b"", b"not json", b"{\"Version\":1,\"ID\":\"\",\"Index\":1,\"Term\":1,\"Size\":-13}"] {
        let mut wrong = members_with("meta.json", meta);
        wrong[2].1 = sums(meta, STATE);
        assert_eq!(walk_error(&tar(&wrong)), "meta.json cannot be read");
    }
}

#[test]
fn sums_are_read_strictly() {
    let sound = String::from_utf8(members(STATE)[2].1.clone()).unwrap();
    let lines: Vec<&str> = sound.split_inclusive('\n').collect();
    assert!(walk([&tar(&members_with("SHA256SUMS", format!("{}{}", lines[1], lines[0]).as_bytes()))[..]]).is_ok());
    assert_eq!(sums_error(lines[0].as_bytes()), "SHA256SUMS: no line for meta.json");
    assert_eq!(sums_error(lines[1].as_bytes()), "SHA256SUMS: no line for state.bin");
    assert_eq!(sums_error(b""), "SHA256SUMS: does not end with a newline");
    assert_eq!(sums_error(sound.trim_end().as_bytes()), "SHA256SUMS: does not end with a newline");
    assert_eq!(sums_error(format!("{sound}\n").as_bytes()), "SHA256SUMS: a malformed line");
    assert_eq!(sums_error(format!("{sound}{}", lines[0]).as_bytes()), "SHA256SUMS: two lines for one file");
    let other = lines[0].replace("state.bin", "other.bin");
    assert_eq!(sums_error(format!("{sound}{other}").as_bytes()), "SHA256SUMS: a line for another file");
    assert_eq!(sums_error(sound.to_uppercase().as_bytes()), "SHA256SUMS: a line for another file");
    assert_eq!(sums_error(sound.replace("  ", " ").as_bytes()), "SHA256SUMS: a malformed line");
    assert_eq!(sums_error(sound.replacen("  ", "0  ", 1).as_bytes()), "SHA256SUMS: a malformed hash");
    assert_eq!(sums_error(&[0xff, b'\n']), "SHA256SUMS: not text");
    let mut hash = sound.into_bytes();
    hash[0] = if hash[0] == b'0' { b'1' } else { b'0' };
    assert_eq!(sums_error(&hash), "state.bin: sha256 differs from SHA256SUMS");
}

#[test]
fn small_members_stay_small() {
    let long = vec![b' '; 8192];
    assert_eq!(walk_error(&tar(&members_with("meta.json", &long))), "meta.json claims 8192 bytes, too long for it");
    assert_eq!(walk_error(&tar(&members_with("SHA256SUMS", &long))), "SHA256SUMS claims 8192 bytes, too long for it");
}

#[test]
fn the_end_is_two_zero_blocks_and_then_nothing_but_zero_blocks() {
    let mut archive = tar(&members(STATE));
    let content_len = archive.len() - 1024;
    assert_eq!(walk_error(&archive[..content_len]), "archive ends without its end marker");
    assert_eq!(walk_error(&archive[..content_len + 512]), "archive ends without its end marker");
    assert_eq!(walk_error(&archive[..content_len + 700]), "archive ends inside its end marker");
    archive.extend_from_slice(&[0; 10 * 512]);
    assert!(walk([&archive[..]]).is_ok());
    archive.push(0);
    assert_eq!(walk_error(&archive), "archive ends inside its end marker");
    archive.push(b'!');
    assert!(walk_error(&archive).starts_with("unexpected data after the end of the archive"));
    let mut one_zero_block = archive[..content_len + 512].to_vec();
    one_zero_block.extend_from_slice(&header("SHA256SUMS.sealed", b'0', &octal(0)));
    one_zero_block.extend_from_slice(&[0; 1024]);
    assert!(walk_error(&one_zero_block).starts_with("unexpected data after the end of the archive"));
}

#[test]
fn cut_archives_name_the_member() {
    let archive = tar(&members(STATE));
    for (index, name) in ["meta.json", "state.bin", "SHA256SUMS"].into_iter().enumerate() {
        let at = header_at(index);
        assert_eq!(walk_error(&archive[..at + 100]), "archive ends inside a tar header");
        assert_eq!(walk_error(&archive[..at + 515]), format!("archive ends inside {name}"));
        assert_eq!(walk_error(&archive[..at + 1000]), "archive ends inside the padding after a member");
    }
}

#[test]
fn headers_and_padding_are_checked() {
    let archive = tar(&members(STATE));
    let mut flipped = archive.clone();
    flipped[header_at(1) + 100] ^= 1;
    assert_eq!(walk_error(&flipped), "bad tar header at byte 1024: the checksum is wrong");
    let mut flipped = archive.clone();
    flipped[header_at(1) + 512 + 13] = 1;
    assert_eq!(walk_error(&flipped), "bytes that are not zero in the padding at byte 1536 of the archive");
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = archive.clone();
        changed[header_at(1) + at..][..bytes.len()].copy_from_slice(bytes);
        seal(&mut changed[header_at(1)..]);
        walk_error(&changed)
    };
    let error = |reason| format!("bad tar header at byte 1024: {reason}");
    assert_eq!(with(156, b"5"), error("an entry that is no plain file"));
    assert_eq!(with(156, b"2"), error("an entry that is no plain file"));
    assert_eq!(with(156, b"L"), error("gnu long names do not occur in snapshots"));
    assert_eq!(with(257, b"USTAR"), error("neither ustar nor gnu"));
    assert_eq!(with(345, b"folder"), error("a name with a path prefix"));
    assert_eq!(with(124, b"0000000001x"), error("the size is no number"));
    assert_eq!(with(124, &[b' '; 12]), error("the size is no number"));
    assert_eq!(with(124, &[0xff; 12]), error("the size is no number"));
    assert_eq!(with(124, &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), error("the size is no number"));
    assert_eq!(with(124, &[0x80, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]), error("a size beyond 2^63"));
}

#[test]
fn base_256_sizes_are_read() {
    let mut archive = tar(&members(STATE));
    let at = header_at(1);
    archive[at + 124..at + 136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13]);
    archive[at + 257..at + 265].copy_from_slice(b"ustar  \0");
    seal(&mut archive[at..]);
    assert_eq!(walk([&archive[..]]).unwrap().0.state_len_bytes, 13);
}

/// A sound archive with this in front of `state.bin`'s header, which is replaced.
fn archive_with_pax(before: &[u8], state_header: &[u8; 512]) -> Vec<u8> {
    let archive = tar(&members(STATE));
    let at = header_at(1);
    [&archive[..at], before, state_header, &archive[at + 512..]].concat()
}

#[test]
fn pax_size_and_path_hold_for_the_next_member() {
    let records = [("mtime", "1700000000.25"), ("size", "13"), ("path", "state.bin")];
    let archive = archive_with_pax(&pax(b'x', &records), &header("renamed", b'0', &octal(0)));
    assert_eq!(walk([&archive[..]]).unwrap().0.state_len_bytes, 13);
    let global = pax(b'g', &[("comment", "a comment")]);
    let archive = archive_with_pax(&global, &header("state.bin", b'0', &octal(13)));
    assert!(walk([&archive[..]]).is_ok());
    // A long header, over several blocks.
    let long = pax(b'x', &[("comment", &"x".repeat(5000)), ("size", "13")]);
    let archive = archive_with_pax(&long, &header("state.bin", b'0', &octal(0)));
    assert!(walk([&archive[..]]).is_ok());
}

#[test]
fn bad_pax_headers_are_refused() {
    let state = header("state.bin", b'0', &octal(13));
    let error = |before: &[u8]| walk_error(&archive_with_pax(before, &state));
    assert!(error(&pax(b'g', &[("size", "13")])).ends_with("a global pax header that sets a path or a size"));
    assert!(error(&pax(b'x', &[("size", "-1")])).ends_with("a pax size that is no number"));
    assert!(error(&pax(b'x', &[("size", "99999999999999999999")])).ends_with("a pax size that is no number"));
    assert!(error(&pax(b'x', &[("size", "18446744073709551615")])).ends_with("a size beyond 2^63"));
    assert!(error(&pax(b'x', &[("size", "1"), ("size", "13")])).ends_with("a pax record that is there twice"));
    assert!(error(&pax(b'x', &[("GNU.sparse.map", "0,1")])).ends_with("a sparse file"));
    let two = [pax(b'x', &[("a", "b")]), pax(b'x', &[("a", "b")])].concat();
    assert!(error(&two).ends_with("two pax headers in front of one member"));
    assert!(error(&header("p", b'x', &octal(0))).ends_with("a pax header that is empty or too long"));
    assert!(error(&header("p", b'x', &octal(70_000))).ends_with("a pax header that is empty or too long"));
    for payload in [&b"x"[..], b"5 a=b", b"6 a=b\nx", b"99 a=b\n", b"6 aab\n", b"+6 a=b\n", b"0 ", b"2 \n"] {
        let before = [&header("p", b'x', &octal(payload.len()))[..], &padded(payload)].concat();
        assert!(error(&before).ends_with("a malformed pax record"), "{payload:?}");
    }
    let archive = tar(&members(STATE));
    let dangling = [&archive[..archive.len() - 1024], &pax(b'x', &[("a", "b")])[..], &[0; 1024]].concat();
    assert!(walk_error(&dangling).ends_with("a pax header with no member after it"));
}

#[test]
fn a_state_beyond_8_gib_is_walked() {
    let state_len_bytes: u64 = 9 << 30;
    let mut walker = Walker::new();
    let feed = |walker: &mut Walker, mut bytes: &[u8]| {
        while !bytes.is_empty() {
            let (len, _) = walker.next(bytes).unwrap();
            bytes = &bytes[len..];
        }
    };
    feed(&mut walker, &pax(b'x', &[("size", &state_len_bytes.to_string())]));
    assert_eq!(walker.state_len_bytes(), None);
    feed(&mut walker, &header("state.bin", b'0', &octal(0)));
    assert_eq!(walker.state_len_bytes(), Some(state_len_bytes));
    assert_eq!(walker.next(&[7; 100_000]).unwrap(), (100_000, Region::State));
    assert_eq!(walker.finish().unwrap_err().to_string(), "archive ends inside state.bin");
}

#[test]
fn after_an_error_the_walker_stays_failed() {
    let mut walker = Walker::new();
    assert!(walker.next(&[1; 512]).is_err());
    assert!(walker.next(&[0; 1024]).is_err());
    assert!(walker.finish().is_err());
}

#[test]
fn heads_are_recognised() {
    let archive = tar(&members(STATE));
    assert!(Walker::looks_like_snapshot(&archive));
    assert!(Walker::looks_like_snapshot(&archive[..512]));
    assert!(!Walker::looks_like_snapshot(&archive[..511]));
    assert!(!Walker::looks_like_snapshot(&[0; 512]));
    assert!(!Walker::looks_like_snapshot(b""));
    assert!(Walker::looks_like_snapshot(&header("SHA256SUMS.sealed", b'0', &octal(5))));
    assert!(!Walker::looks_like_snapshot(&header("other", b'0', &octal(5))));
    let pax = pax(b'x', &[("comment", &"x".repeat(600))]);
    assert!(Walker::looks_like_snapshot(&[&pax[..], &archive].concat()));
    assert!(Walker::looks_like_snapshot(&pax));
    assert!(Walker::looks_like_snapshot(&pax[..512]));
    assert!(!Walker::looks_like_snapshot(&[&pax[..], &header("other", b'0', &octal(5))].concat()));
}

#[test]
fn one_byte_at_a_time_gives_the_same() {
    let (_, stream, _) = unwrap(&fixture("vault-00.snap")[..], Expect::Snapshot).unwrap();
    assert_eq!(walk(stream.chunks(1)).unwrap(), walk([&stream[..]]).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_split_gives_the_same(
        lens in proptest::collection::vec(1usize..3000, 1..40),
        flip in proptest::option::of((0usize..9 * 512, 0u8..8)),
        cut_len in proptest::option::of(0usize..9 * 512),
    ) {
        let records = [("mtime", "1700000000.25"), ("size", "13")];
        let mut archive = archive_with_pax(&pax(b'x', &records), &header("state.bin", b'0', &octal(0)));
        if let Some((at, bit)) = flip
            && let Some(byte) = archive.get_mut(at)
        {
            *byte ^= 1 << bit;
        }
        archive.truncate(cut_len.unwrap_or(usize::MAX));
        let mut pieces = Vec::new();
        let mut rest = &archive[..];
        for len in lens.iter().cycle() {
            let (piece, after) = rest.split_at((*len).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(walk(pieces), walk([&archive[..]]));
    }
}
