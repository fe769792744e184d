use super::*;

const MS: u64 = 1_000_000;

fn limited(produce: u64, fetch: u64) -> Quotas {
    let mut quotas = Quotas::new();
    quotas.set(&Whose::client(""), Quota { produce_bytes_per_s: produce, fetch_bytes_per_s: fetch });
    quotas
}

#[test]
fn without_limits_nothing_is_counted() {
    let mut quotas = limited(0, 1000);
    assert_eq!(quotas.charge(0, ("", "a"), Direction::Produce, u64::MAX), 0);
    assert_eq!(quotas.clients(), 0);
}

#[test]
fn a_second_of_the_rate_is_free_and_the_rest_is_waited_for() {
    let mut quotas = limited(1000, 0);
    assert_eq!(quotas.charge(0, ("", "a"), Direction::Produce, 1000), 0);
    assert_eq!(quotas.charge(0, ("", "a"), Direction::Produce, 500), 500);
    assert_eq!(quotas.charge(0, ("", "b"), Direction::Produce, 1000), 0, "each client has its own bucket");
    assert_eq!(quotas.charge(500 * MS, ("", "a"), Direction::Produce, 1), 1, "half a second paid for half the debt");
    assert_eq!(quotas.charge(5000 * MS, ("", "a"), Direction::Produce, 1000), 0, "nothing is saved up beyond a second");
    assert_eq!(quotas.charge(5000 * MS, ("", "a"), Direction::Produce, u64::MAX), THROTTLE_MS_MAX);
}

#[test]
fn whoever_obeys_gets_the_rate() {
    let mut quotas = limited(10_000, 0);
    let (mut now, mut sent) = (0, 0u64);
    while now < 100_000 * MS {
        sent += 700;
        now += u64::from(quotas.charge(now, ("", "a"), Direction::Produce, 700)) * MS + MS / 10;
    }
    let fair = 10_000 * 100 + 10_000;
    assert!((fair * 99 / 100..=fair + 700).contains(&sent), "{sent} bytes in 100 s at 10,000 bytes/s");
}

#[test]
fn an_own_quota_replaces_the_default_and_can_be_taken_away() {
    let mut quotas = limited(10, 10);
    quotas.set(&Whose::client("a"), Quota { produce_bytes_per_s: 1_000_000, fetch_bytes_per_s: 0 });
    assert_eq!(quotas.charge(0, ("", "a"), Direction::Produce, 1000), 0);
    assert!(quotas.charge(0, ("", "a"), Direction::Fetch, 1000) > 0, "what an own quota says nothing of is as the default has it");
    quotas.set(&Whose::client("a"), Quota::default());
    assert!(quotas.charge(0, ("", "a"), Direction::Produce, 1000) > 0);
    quotas.set_all([(&Whose::client("b"), Quota { produce_bytes_per_s: 10, fetch_bytes_per_s: 0 })].into_iter());
    assert_eq!(quotas.charge(0, ("", "a"), Direction::Produce, 1000), 0, "there is no default any more");
}

/// Each quota is taken away in Kafka's order, and the next one holds.
#[test]
fn the_narrowest_quota_holds() {
    let whose = |user: Option<&str>, client: Option<&str>| Whose { user: user.map(Into::into), client: client.map(Into::into) };
    let order = [
        whose(Some("ann"), Some("app")),
        whose(Some("ann"), Some("")),
        whose(Some("ann"), None),
        whose(Some(""), Some("app")),
        whose(Some(""), Some("")),
        whose(Some(""), None),
        whose(None, Some("app")),
        whose(None, Some("")),
    ];
    let mut quotas = Quotas::new();
    for (n, whose) in order.iter().enumerate() {
        quotas.set(whose, Quota { produce_bytes_per_s: 1000 * (n as u64 + 1), fetch_bytes_per_s: 0 });
        // Those of others never hold.
        quotas.set(&Whose { user: Some("bob".into()), ..whose.clone() }, Quota { produce_bytes_per_s: 1, fetch_bytes_per_s: 1 });
    }
    for (n, whose) in order.iter().enumerate() {
        let (rate, by_user, by_client) = quotas.rate("ann", "app", Direction::Produce).expect("one is left");
        assert_eq!((rate, by_user, by_client), (1000 * (n as u64 + 1), whose.user.is_some(), whose.client.is_some()), "{whose:?}");
        quotas.set(whose, Quota::default());
    }
    assert_eq!(quotas.rate("ann", "app", Direction::Produce), None);
}

#[test]
fn the_clients_of_a_user_share_what_is_theirs() {
    let mut quotas = Quotas::new();
    quotas.set(&Whose { user: Some(String::new()), client: None }, Quota { produce_bytes_per_s: 1000, fetch_bytes_per_s: 0 });
    assert_eq!(quotas.charge(0, ("ann", "a"), Direction::Produce, 1000), 0);
    assert_eq!(quotas.charge(0, ("ann", "b"), Direction::Produce, 500), 500);
    assert_eq!(quotas.charge(0, ("bob", "a"), Direction::Produce, 1000), 0, "another user has another bucket");
    quotas.set(&Whose { user: Some("ann".into()), client: Some("a".into()) }, Quota { produce_bytes_per_s: 1000, fetch_bytes_per_s: 0 });
    assert_eq!(quotas.charge(0, ("ann", "a"), Direction::Produce, 1000), 0, "one client of hers by itself");
    assert_eq!(quotas.clients(), 3);
}

#[test]
fn the_table_is_bounded_and_debtors_stay() {
    let mut quotas = limited(1000, 0);
    assert!(quotas.charge(0, ("", "debtor"), Direction::Produce, 1_000_000) > 0);
    for i in 0..CLIENTS_MAX - 1 {
        quotas.charge(0, ("", &format!("c{i}")), Direction::Produce, 100);
    }
    assert_eq!(quotas.clients(), CLIENTS_MAX);
    // At the same instant everybody owes: the newcomers share a bucket.
    assert_eq!(quotas.charge(0, ("", "x"), Direction::Produce, 1000), 0);
    assert!(quotas.charge(0, ("", "y"), Direction::Produce, 1000) > 0);
    assert_eq!(quotas.clients(), CLIENTS_MAX);
    // A second later all but the debtor have paid.
    assert_eq!(quotas.charge(1000 * MS, ("", "z"), Direction::Produce, 1000), 0);
    assert_eq!(quotas.clients(), 2);
    assert!(quotas.charge(1000 * MS, ("", "debtor"), Direction::Produce, 1) > 0);
}
