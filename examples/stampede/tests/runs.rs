//! The example runs to its end, and no caller goes away empty-handed.

use std::process::Command;

#[test]
fn nobody_fails() {
    let output = Command::new(env!("CARGO_BIN_EXE_stampede")).output();
    let output = output.expect("the example can be started");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let storms: Vec<_> = text.lines().collect();
    assert_eq!(storms.len(), 4, "{text}");
    assert!(storms.iter().all(|it| it.contains(" 0 failed")), "{text}");
}
