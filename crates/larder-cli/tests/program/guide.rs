//! Runs the examples of `docs/program.md`.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::support::Home;

const GUIDE: &str = include_str!("../../../../docs/program.md");

/// A command and what it prints on both streams.
struct Example<'a> {
    command: &'a str,
    expected: Vec<&'a str>,
}

/// Returns the examples of all `console` blocks in their order.
fn examples() -> Vec<Example<'static>> {
    let mut examples: Vec<Example<'_>> = Vec::new();
    let mut inside = false;
    for line in GUIDE.lines() {
        match line.strip_prefix("$ ") {
            _ if line.starts_with("```") => inside = line == "```console",
            Some(command) if inside => examples.push(Example {
                command,
                expected: Vec::new(),
            }),
            _ if inside => {
                let example = examples.last_mut().expect("output follows a command");
                example.expected.push(line);
            }
            _ => {}
        }
    }
    examples
}

/// Returns whether the text is as expected, where `..` stands for anything.
fn matches(text: &str, expected: &str) -> bool {
    let mut parts = expected.split("..");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut ends_open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        ends_open = part.is_empty();
    }
    rest.is_empty() || ends_open
}

#[test]
fn the_examples_print_what_the_guide_says() {
    let home = Home::new();
    let program = Path::new(env!("CARGO_BIN_EXE_larder")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", program.display());
    let examples = examples();
    assert!(examples.len() > 20);
    for example in examples {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec 2>&1; {}", example.command)]);
        shell.env_clear().current_dir(home.path());
        shell.env("PATH", &path).env("HOME", home.path());
        let output = shell.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let expected = example.expected.join("\n");
        assert!(
            matches(printed.trim_end(), &expected),
            "$ {}\n{printed}\nexpected:\n{expected}",
            example.command
        );
    }
}
