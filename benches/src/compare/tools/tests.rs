use super::*;

fn wait<T>(of: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(of)
}

#[test]
fn the_version_of_java_is_read() {
    assert_eq!(version_of("javac 17.0.15\n").expect("a version"), ("17.0.15".to_owned(), 17));
    assert_eq!(version_of("Picked up JAVA_TOOL_OPTIONS: -Xmx1G\njavac 25-ea\n").expect("a version").1, 25);
    assert!(version_of("javac of old\n").is_err());
    assert!(version_of("").is_err());
}

#[test]
fn a_tool_that_is_missing_is_named_with_what_to_do() {
    let error = wait(says("no-such-tool-anywhere", &["-version"], "install it")).expect_err("it is not there");
    let text = error.to_string();
    assert!(text.contains("`no-such-tool-anywhere` is missing") && text.ends_with("install it"), "{text}");
}

#[test]
fn what_is_not_fetched_whole_is_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let wanted = dir.path().join("jars");
    let failed = wait(fetched(&wanted, async |part: &Path| {
        fs::write(part.join("half"), "").context("writing")?;
        bail!("the network is gone")
    }));
    assert!(failed.is_err());
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
    wait(fetched(&wanted, async |part: &Path| fs::write(part.join("whole"), "").context("writing"))).expect("nothing fails");
    assert!(wanted.join("whole").exists());
}
