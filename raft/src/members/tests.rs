use super::*;
use proptest::prelude::*;

fn some() -> Membership {
    let mut all = Membership::first(11, [(11, NodeId(1)), (12, NodeId(2)), (13, NodeId(3))].into());
    all.conf.learners = vec![14];
    all.conf.voters_outgoing = vec![11, 15];
    all.conf.auto_leave = true;
    all
}

#[test]
fn members_come_back() {
    assert_eq!(Membership::decode(&some().encode()), Ok(some()));
}

#[test]
fn what_is_cut_or_longer_is_refused() {
    let bytes = some().encode();
    for cut in 0..bytes.len() {
        assert!(Membership::decode(&bytes[..cut]).is_err(), "{cut} bytes");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(Membership::decode(&longer).is_err());
}

proptest! {
    #[test]
    fn junk_is_no_membership(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut junk = junk;
        if let Some(first) = junk.first_mut() {
            *first = VERSION;
        }
        if let Ok(read) = Membership::decode(&junk) {
            prop_assert_eq!(Membership::decode(&read.encode()), Ok(read));
        }
    }
}
