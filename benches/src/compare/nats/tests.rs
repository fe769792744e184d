use super::*;

fn said(text: &str) -> Result<Value> {
    answer(&mut text.as_bytes())
}

#[test]
fn the_answer_is_found_among_what_a_server_says() {
    let ack =
        said("INFO {\"version\":\"2\"}\r\nPING\r\nMSG _INBOX.probe 1 28\r\n{\"stream\":\"events\", \"seq\":7}\r\n").expect("an answer");
    assert_eq!(ack["seq"], 7);
}

#[test]
fn an_error_an_early_end_and_nobody_are_no_answer() {
    let error = said("MSG _INBOX.probe 1 26\r\n{\"error\":{\"err_code\":10059}}\r\n").expect_err("cut off");
    assert_eq!(error.to_string(), "an answer that is no JSON");
    let error = said("MSG _INBOX.probe 1 28\r\n{\"error\":{\"err_code\":10059}}\r\n").expect_err("an error");
    assert!(error.to_string().contains("10059"), "{error}");
    assert!(said("INFO {}\r\n").is_err());
    assert!(said("HMSG _INBOX.probe 1 16 16\r\nNATS/1.0 503\r\n\r\n").expect_err("nobody").to_string().contains("nobody"));
    assert!(said("-ERR 'Authorization Violation'\r\n").is_err());
}

#[test]
fn one_setting_makes_it_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::new(dir.path(), 1).expect("a port is free");
    let settings = |syncs| NatsServer { program: "nats-server".into(), version: "2".into(), syncs, drivers: Vec::new() }.settings(&home);
    assert!(settings(Syncs::Always).contains("sync_interval: always"));
    assert_eq!(settings(Syncs::Always).replace("  sync_interval: always\n", ""), settings(Syncs::Rarely));
}
