//! The colon spelling: `larder cache:get KEY` is `larder cache get KEY`.

use std::ffi::OsString;

/// The global flags whose value is the next argument.
const WITH_VALUE: [&str; 3] = ["--config", "--cache", "--color"];

/// Splits the first word at its first colon; the words after it are left alone, so keys may hold colons.
pub(crate) fn rewrite(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let Some(index) = first_word(&arguments) else {
        return arguments;
    };
    let word = arguments[index].to_str();
    let Some((noun, verb)) = word.and_then(|word| word.split_once(':')) else {
        return arguments;
    };
    let pair = [noun.into(), verb.into()];
    arguments.splice(index..=index, pair);
    arguments
}

/// Returns the place of the first argument that is neither a flag nor the value of one.
fn first_word(arguments: &[OsString]) -> Option<usize> {
    let mut index = 1;
    while let Some(argument) = arguments.get(index) {
        let text = argument.to_string_lossy();
        if !text.starts_with('-') {
            return Some(index);
        }
        index += if WITH_VALUE.contains(&text.as_ref()) {
            2
        } else {
            1
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        let words: Vec<_> = rewrite(arguments)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn only_the_first_word_is_split() {
        for (line, expected) in [
            ("larder cache:get a:b", "larder cache get a:b"),
            ("larder cache get a:b", "larder cache get a:b"),
            ("larder --json cache:keys", "larder --json cache keys"),
            (
                "larder --cache eu:1 cache:keys",
                "larder --cache eu:1 cache keys",
            ),
            ("larder --cache=eu:1", "larder --cache=eu:1"),
            ("larder", "larder"),
        ] {
            assert_eq!(rewritten(line), expected);
        }
    }
}
