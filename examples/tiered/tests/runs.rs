//! The example runs to its end: most reads take a copy, and the bearer of a token reads what was changed elsewhere.

use std::process::Command;

#[test]
fn copies_are_read_until_another_process_changes_the_entry() {
    let output = Command::new(env!("CARGO_BIN_EXE_tiered")).output();
    let output = output.expect("the example can be started");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(!lines[0].contains(": 0 hits on copies"), "{text}");
    assert!(lines[1].starts_with("Anna is read "), "{text}");
    assert!(lines[2].contains("the bearer reads Annie"), "{text}");
}
