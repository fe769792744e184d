use super::*;

#[test]
fn a_directory_goes_unless_it_is_kept_and_must_be_empty() {
    let outer = tempfile::tempdir().expect("a directory");
    let path = outer.path().join("x");
    drop(Scratch::new(Some(&path), "test", false).expect("made"));
    assert!(!path.exists());
    let mut kept = Scratch::new(Some(&path), "test", false).expect("made");
    kept.keep();
    fs::write(path.join("file"), "x").expect("written");
    drop(kept);
    assert!(path.exists());
    Scratch::new(Some(&path), "test", false).expect_err("there is something in it");
}

#[tokio::test]
async fn a_program_that_does_not_serve_is_told_with_its_last_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let spec = NodeSpec::new(Some(Path::new("/bin/false")), dir.path(), Some("1")).expect("one port");
    let error = spec.start().await.expect_err("it ends at once");
    assert!(error.to_string().contains("it ended"), "{error:#}");
}
