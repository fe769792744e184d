use super::*;

fn sleeper() -> Process {
    let mut command = Command::new("sleep");
    command.arg("60");
    Process::spawn(command, &[]).expect("there is sleep")
}

#[tokio::test]
async fn the_threads_of_a_process_are_told() {
    let told = sleeper().threads();
    let words: Vec<&str> = told.split(" ").collect();
    assert!(words.len() >= 2 && words[1].len() == 1 && words[1] != "?", "{told}");
}

#[tokio::test]
async fn a_process_is_gone_with_its_owner() {
    let process = sleeper();
    let proc = format!("/proc/{}", process.pid().expect("it runs"));
    assert!(fs::exists(&proc).expect("readable"));
    drop(process);
    assert!(!fs::exists(&proc).expect("readable"));
}

#[tokio::test]
async fn a_process_stops_when_it_is_asked_to() {
    let status = sleeper().stop().await.expect("in time");
    assert!(!status.success(), "a signal ended it");
}

#[tokio::test]
async fn a_process_runs_on_the_cpus_that_are_named() {
    let cpu = sys::cpus_allowed().expect("known")[0];
    let mut command = Command::new("sleep");
    command.arg("60");
    let process = Process::spawn(command, &[cpu]).expect("there is sleep");
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid().expect("it runs"))).expect("readable");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
    assert_eq!(allowed, Some(cpu.to_string().as_str()));
}
