//! Every misuse of the attributes is a compile error at the user's own token, and says what to
//! write instead. The expected messages stand beside the cases; `TRYBUILD=overwrite` renews them.

#[test]
fn each_misuse_is_reported_at_its_token() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
