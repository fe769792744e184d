use super::*;

const GREETING: Greeting = Greeting { cluster: 0xfeed, from: NodeId(1), to: NodeId(2), home: 3, age: 4, start: 5 };

fn versions(oldest: u32, newest: u32) -> Versions {
    Versions { oldest, newest }
}

#[test]
fn a_greeting_and_a_welcome_come_back_and_changed_ones_do_not() {
    let bytes = GREETING.encode(versions(2, 7));
    assert_eq!(bytes.len(), GREETING_BYTES);
    assert_eq!(Greeting::decode(&bytes), Ok((GREETING, versions(2, 7))));
    let welcome = Welcome::new(versions(2, 7), versions(1, 5));
    let answer = welcome.encode();
    assert_eq!(answer.len(), WELCOME_BYTES);
    assert_eq!(Welcome::decode(&answer), Ok(welcome));
    for at in 0..GREETING_BYTES {
        let mut changed = bytes.to_vec();
        changed[at] ^= 4;
        assert!(Greeting::decode(&changed).is_err(), "byte {at}");
        assert!(Greeting::decode(&bytes[..at]).is_err(), "{at} bytes");
    }
    for at in 0..WELCOME_BYTES {
        let mut changed = answer.to_vec();
        changed[at] ^= 4;
        assert!(Welcome::decode(&changed).is_err(), "byte {at}");
        assert!(Welcome::decode(&answer[..at]).is_err(), "{at} bytes");
    }
}

#[test]
fn both_speak_the_newest_that_both_know() {
    let agreed = |theirs, ours| Welcome::new(theirs, ours).agreed(theirs);
    assert_eq!(agreed(versions(3, 3), versions(3, 3)), Ok(3));
    assert_eq!(agreed(versions(3, 4), versions(4, 6)), Ok(4));
    assert_eq!(agreed(versions(2, 9), versions(4, 6)), Ok(6));
    let error = agreed(versions(1, 2), versions(3, 4)).expect_err("nothing in common").to_string();
    assert!(error.contains("it speaks versions 3 to 4, this node versions 1 to 2: upgrade this node first"), "{error}");
    let error = agreed(versions(5, 5), versions(3, 4)).expect_err("nothing in common").to_string();
    assert!(error.contains("it speaks versions 3 to 4, this node version 5: upgrade it first"), "{error}");
}

#[test]
fn an_answer_that_makes_no_sense_is_refused() {
    let other = Welcome { version: Some(8), versions: versions(3, 8) };
    assert!(matches!(other.agreed(versions(3, 4)), Err(WireError::Shape(_))));
    for (oldest, newest) in [(0, 3), (4, 3)] {
        assert!(matches!(Greeting::decode(&GREETING.encode(versions(oldest, newest))), Err(WireError::Shape(_))));
    }
}
