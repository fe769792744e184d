use super::*;

#[test]
fn a_pinned_thread_may_run_there_only() {
    std::thread::spawn(|| {
        let allowed = cpus_allowed().expect("the kernel tells");
        let last = *allowed.last().expect("at least one CPU");
        pin_thread(&[last]).expect("it was allowed");
        assert_eq!(cpus_allowed().expect("the kernel tells"), [last]);
        assert!(pin_thread(&[]).is_err());
    })
    .join()
    .expect("no assertion failed");
}

#[test]
fn the_timer_never_fires_early_and_fires_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let timer = Timer::new().expect("a timer");
        for micros in [0, 50, 300, 3_000] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.until(at).await.expect("it fires");
            assert!(Instant::now() >= at, "fired before {micros} µs had passed");
        }
        let far = timer.until(Instant::now() + Duration::from_secs(3600));
        let near = tokio::time::timeout(Duration::from_millis(5), far).await;
        assert!(near.is_err());
        timer.until(Instant::now() + Duration::from_micros(100)).await.expect("it can be set anew");
    });
}
