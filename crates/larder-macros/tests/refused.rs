//! What `#[cache]` refuses, and what it then says. `TRYBUILD=overwrite` writes the messages anew; read them before they
//! are committed: each must tell a person what to do.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
