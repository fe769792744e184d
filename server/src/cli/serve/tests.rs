use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    serve: Serve,
}

fn line(args: &[&str]) -> Serve {
    Line::parse_from(std::iter::once(&"serve").chain(args)).serve
}

fn with_file(args: &[&str], text: &str) -> Result<Settings> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), text).expect("written");
    let path = file.path().display().to_string();
    line(&[args, &["--config", &path]].concat()).settings()
}

#[test]
fn nothing_needs_to_be_said() {
    let settings = line(&[]).settings().expect("the defaults are fine");
    assert_eq!(settings.data, Path::new("./data"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7400");
    assert_eq!(settings.http.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:7480"));
    assert_eq!((settings.cores, settings.pin, settings.memory), (CoreChoice::All, true, None));
    assert_eq!((settings.idle_poll, settings.lease_reads), (IDLE_POLL, false));
}

#[test]
fn the_command_line_goes_before_the_file() {
    let text = "insecure = true\ndata = '/srv'\nlisten = '0.0.0.0:1'\ncores = 2\nmemory = '1GiB'\nhttp = 'off'\nno-pin = true\nlog-format = 'json'";
    let settings = with_file(&["--data", "/mine", "--memory", "2GiB"], text).expect("valid");
    assert_eq!(settings.data, Path::new("/mine"));
    assert_eq!(settings.memory, Some(2 << 30));
    assert_eq!(settings.listen.to_string(), "0.0.0.0:1");
    assert_eq!((settings.cores, settings.pin, settings.http), (CoreChoice::Count(2), false, None));
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.idle_poll, Duration::ZERO, "cores that are not pinned take no CPU from others");
    let settings = with_file(&[], "idle-poll = '50us'\nlease-reads = true").expect("valid");
    assert_eq!((settings.idle_poll, settings.lease_reads), (Duration::from_micros(50), true));
}

#[test]
fn mistakes_in_the_file_are_named() {
    for (text, says) in [
        ("dta = 'x'", "unknown field `dta`"),
        ("cores = 'many'", "number of cores"),
        ("memory = '1 parsec'", "parsec"),
        ("listen = 7", "listen"),
        ("http = 'on'", "`off`"),
        ("idle-poll = '1s'", "at most 10ms"),
        ("= 3", "line 1"),
    ] {
        let fail = with_file(&[], text).expect_err(text);
        assert_eq!(fail.exit, super::super::fail::Exit::Usage);
        assert!(fail.message.contains(says), "{}", fail.message);
    }
    let missing = line(&["--config", "/does/not/exist"]).settings().expect_err("no such file");
    assert!(missing.message.contains("/does/not/exist"), "{}", missing.message);
}

#[test]
fn other_machines_are_let_in_only_when_told() {
    for args in [["--listen", "0.0.0.0:7400"], ["--http", "[::]:80"]] {
        let fail = line(&args).settings().expect_err("open to all");
        assert!(fail.message.contains("other machines") && fail.advice.contains("--insecure"));
        line(&[&args[..], &["--insecure"]].concat()).settings().expect("told so");
    }
    line(&["--listen", "[::1]:7400", "--http", "off"]).settings().expect("loopback too");
}

#[test]
fn cores_are_a_number_or_a_list() {
    let of = |text: &str| text.parse::<CoreChoice>();
    assert_eq!(of("all"), Ok(CoreChoice::All));
    assert_eq!(of("3"), Ok(CoreChoice::Count(3)));
    assert_eq!(of("5,0,2-3"), Ok(CoreChoice::Cpus(vec![0, 2, 3, 5])));
    for bad in ["0", "", "1,", "3-1", "0-2,1", "a", "0-99999999999"] {
        of(bad).expect_err(bad);
    }
}

#[test]
fn rights_are_heeded_if_that_is_said() {
    assert_eq!(line(&[]).settings().expect("fine").security, Security::default());
    let said = line(&["--authorize", "--super-user", "ann", "--super-user", "CN=bob,O=x;eve"]).settings().expect("fine").security;
    assert!(said.authorize);
    assert_eq!(said.super_users, ["User:ann", "User:CN=bob,O=x", "User:eve"]);
    let from_file = with_file(&[], "authorize = true\nsuper-user = ['ann']").expect("fine").security;
    assert_eq!(from_file, Security { authorize: true, super_users: vec!["User:ann".into()], ..Security::default() });
}
