use super::*;
use std::path::Path;

fn kafka(syncs: Syncs) -> Kafka {
    Kafka { jars: Jars { dir: "/jars".into(), version: "4.1.1".into(), java: "17".into() }, syncs, drivers: Vec::new() }
}

#[test]
fn one_setting_makes_it_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::new(dir.path(), 2).expect("ports are free");
    let lines = |syncs| kafka(syncs).settings(&home).lines().map(str::to_owned).collect::<Vec<_>>();
    let (never, each) = (lines(Syncs::Never), lines(Syncs::EachAck));
    assert_eq!(each[..never.len()], never);
    assert_eq!(each[never.len()..], ["log.flush.interval.messages=1"]);
    assert!(never.contains(&format!("log.dirs={}", dir.path().join("data").display())), "{never:?}");
}

#[test]
fn an_id_is_128_bits_in_base64() {
    let id = id(&mut SmallRng::seed_from_u64(1));
    assert_eq!(id.len(), ID_LEN);
    assert!(id.ends_with('A') && id.bytes().all(|c| ID_CHARS.contains(&c)), "{id}");
}

#[test]
fn all_jars_are_on_the_class_path() {
    assert_eq!(kafka(Syncs::Never).jars.class_path(), Path::new("/jars/*"));
}
