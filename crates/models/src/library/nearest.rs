//! Names that look like the one that was asked for.

/// Most names that are suggested.
const MAX_SUGGESTED: usize = 3;

/// The names nearest to `name` by edit distance, best first; none when nothing is near.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted: Vec<char> = name.to_lowercase().chars().take(80).collect();
    let mut scored: Vec<(usize, &str)> = names
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let whole = distance(&wanted, &lower.chars().collect::<Vec<_>>());
            let family =
                distance(&wanted, &lower.split(':').next().unwrap_or("").chars().collect::<Vec<_>>());
            let inside = !wanted.is_empty() && lower.contains(&wanted.iter().collect::<String>());
            let score = if inside { 0 } else { whole.min(family) };
            (score <= 1 + wanted.len() / 3).then_some((score, candidate))
        })
        .collect();
    // Stable: of equally near names the one that the catalog lists first.
    scored.sort_by_key(|(score, _)| *score);
    let mut seen = std::collections::HashSet::new();
    scored.retain(|(_, candidate)| seen.insert(*candidate));
    scored.into_iter().take(MAX_SUGGESTED).map(|(_, candidate)| candidate.to_string()).collect()
}

/// Levenshtein distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_nonsense_is_not() {
        let names = ["smollm2:135m", "qwen3:0.6b", "qwen3:4b", "gemma3:1b"];
        assert_eq!(nearest("smolm2", names.into_iter()), ["smollm2:135m"]);
        assert_eq!(nearest("qwen3:0.5b", names.into_iter()), ["qwen3:0.6b", "qwen3:4b"]);
        assert_eq!(nearest("qwen", names.into_iter()), ["qwen3:0.6b", "qwen3:4b"]);
        assert!(nearest("xyzzyxyzzy", names.into_iter()).is_empty());
    }
}
