//! "Did you mean".

/// Returns the candidate closest to `word`, if one is close enough to be what was meant.
pub(super) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// No key of ours is longer; comparing more would only cost time.
    const MAX_CHARS: usize = 64;
    if word.is_empty() || word.chars().nth(MAX_CHARS).is_some() {
        return None;
    }
    let word = word.to_lowercase();
    let budget = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= budget)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns `, did you mean "driver"?`, or nothing when no candidate is close.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    closest(word, candidates)
        .map(|found| format!(", did you mean \"{found}\"?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_and_transpositions_are_recognised_and_strangers_are_not() {
        let keys = ["driver", "url", "password"];
        assert_eq!(closest("drivre", keys), Some("driver"));
        assert_eq!(closest("Pasword", keys), Some("password"));
        assert_eq!(closest("colour", keys), None);
        assert_eq!(closest("", keys), None);
        assert_eq!(closest(&"x".repeat(1 << 20), keys), None);
    }
}
