use super::*;

fn args(server: Option<&str>, client: &[usize]) -> ServerArgs {
    ServerArgs {
        spawn: true,
        dir: None,
        server_cpus: server.map(str::to_owned),
        client_cpus: client.to_vec(),
        server_memory: None,
        program: None,
    }
}

#[test]
fn the_server_has_one_cpu_and_the_client_the_others() {
    let of = |server, client: &[usize]| Placement::of(&args(server, client), &[0, 1, 4, 5]).map(|p| (p.server, p.client));
    assert_eq!(of(None, &[]).expect("fits"), (vec![0], vec![1, 4, 5]));
    assert_eq!(of(Some("2"), &[]).expect("fits"), (vec![0, 1], vec![4, 5]));
    assert_eq!(of(Some("4-5"), &[1]).expect("fits"), (vec![4, 5], vec![1]));
    assert_eq!(of(Some("all"), &[]).expect("fits"), (vec![0, 1, 4, 5], vec![]));
    for (server, client) in [(Some("9"), vec![]), (Some("2-3"), vec![]), (Some("x"), vec![]), (Some("5-4"), vec![]), (None, vec![7])] {
        assert!(of(server, &client).is_err(), "{server:?} {client:?}");
    }
}

#[test]
fn metrics_are_added_up_over_their_labels() {
    let text = "# HELP millpond_journal_syncs Flushes.\n# TYPE millpond_journal_syncs counter\n\
                millpond_journal_syncs_total{core=\"0\"} 40\nmillpond_journal_syncs_total{core=\"1\"} 2\n\
                millpond_core_utilisation{core=\"0\"} 0.25\nodd line\n# EOF\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.get("journal_syncs"), 42.0);
    assert_eq!(metrics.get("core_utilisation"), 0.25);
    assert_eq!(metrics.get("missing"), 0.0);
}

#[test]
fn what_was_used_is_the_difference_of_two_looks() {
    let look = |syncs: f64, user_s: f64| {
        let cpu = crate::machine::usage::Cpu { user_s, system_s: 1.0 };
        let process = Process { cpu, threads: [("core-0".to_owned(), cpu)].into(), ..Process::default() };
        let cpus_busy_s = Some(10.0 + 1.5 * user_s);
        Look { process, cpus_busy_s, metrics: Metrics([("millpond_journal_syncs_total".to_owned(), syncs)].into()) }
    };
    let used = Used::between(&look(10.0, 1.0), &look(110.0, 3.0), 4.0);
    assert_eq!((used.syncs, used.cpu_s), (100.0, 2.0));
    assert!((used.busiest_share() - 0.5).abs() < 1e-9);
    assert!((used.fullness() - 0.75).abs() < 1e-9, "3 s in 4 s");
    assert_eq!(Used { cpus_busy: None, ..used.clone() }.fullness(), used.busiest_share());
}

#[test]
fn a_program_that_does_not_serve_is_an_error_with_its_log() {
    let data = std::env::temp_dir().join(format!("millpond-bench-no-server-{}", std::process::id()));
    let spec = ServerSpec { program: "/bin/false".into(), data: data.clone(), cpus: vec![0], memory: None };
    let error = Server::start(&spec).expect_err("it does not serve");
    assert!(format!("{error:#}").contains("ended before it served"), "{error:#}");
    let _ = fs::remove_dir_all(&data);
    let _ = fs::remove_file(spec.log());
}

#[test]
fn a_number_alone_is_a_count_of_cores_and_a_cpu_in_a_list() {
    let allowed = [0, 2, 3];
    assert_eq!(cpus("2", &allowed).expect("a count"), [0, 2]);
    assert_eq!(cpus("2-3", &allowed).expect("a list"), [2, 3]);
    assert_eq!(cpu_list("0", &allowed).expect("one"), [0]);
    assert_eq!(cpu_list("0,2-3", &allowed).expect("some"), [0, 2, 3]);
    for bad in ["1", "", "0-1", "all", "3-2", "x", "9999999"] {
        assert!(cpu_list(bad, &allowed).is_err(), "{bad}");
    }
}
