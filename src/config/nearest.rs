//! The word that was probably meant.

/// The nearest of `words`, if it is near: at most a third of the letters differ.
pub(super) fn nearest<'w>(typed: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let near = words.into_iter().map(|word| (distance(typed, word), word)).min()?;
    let limit = typed.chars().count().max(3) / 3;
    (near.0 <= limit.max(1)).then_some(near.1)
}

/// Insertions, deletions, changes and swaps of neighbours that make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_near_and_other_words_are_not() {
        let words = ["address", "namespace", "token", "tls"];
        for (typed, expected) in [
            ("adress", Some("address")),
            ("addres", Some("address")),
            ("tokne", Some("token")),
            ("tsl", Some("tls")),
            ("namespaces", Some("namespace")),
            ("region", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, words), expected, "{typed}");
        }
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("", "abc"), 3);
    }
}
