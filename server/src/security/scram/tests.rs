use super::*;
use crate::security::{ITERATIONS_DEFAULT, check_password, nonce};
use proptest::prelude::*;
use std::num::NonZeroU32;

const MANY: NonZeroU32 = NonZeroU32::new(4_096).expect("not zero");

fn strangers() -> Strangers {
    Strangers::new(&[7; 32])
}

/// What the client says second, and what it expects to hear then, by RFC 5802 word for word.
fn prove(mechanism: Mechanism, first_bare: &str, server_first: &str, password: &[u8], header: &str) -> (String, String) {
    prove_again(mechanism, first_bare, server_first, password, header, "")
}

/// The same with something in front of the nonce.
fn prove_again(mechanism: Mechanism, first_bare: &str, server_first: &str, password: &[u8], header: &str, again: &str) -> (String, String) {
    let part = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).expect("it is there");
    let (nonce, salt, iterations) = (part("r="), base64::decode(part("s=")).expect("base64"), part("i=").parse().expect("a number"));
    let mut salted = vec![0; mechanism.key_bytes()];
    let algorithm = match mechanism {
        Mechanism::ScramSha256 => ring::pbkdf2::PBKDF2_HMAC_SHA256,
        Mechanism::ScramSha512 => ring::pbkdf2::PBKDF2_HMAC_SHA512,
    };
    ring::pbkdf2::derive(algorithm, NonZeroU32::new(iterations).expect("some"), &salt, password, &mut salted);
    let client_key = mechanism.hmac(&salted, b"Client Key");
    let stored_key = ring::digest::digest(mechanism.digest(), client_key.as_ref());
    let without_proof = format!("c={},r={again}{nonce}", base64::encode(header.as_bytes()));
    let signed = format!("{first_bare},{server_first},{without_proof}");
    let signature = mechanism.hmac(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let server_key = mechanism.hmac(&salted, b"Server Key");
    let shown = mechanism.hmac(server_key.as_ref(), signed.as_bytes());
    (format!("{without_proof},p={}", base64::encode(&proof)), format!("v={}", base64::encode(shown.as_ref())))
}

fn exchange(mechanism: Mechanism, header: &str, name: &str, known: Option<&Credential>, password: &[u8]) -> Result<String, Refused> {
    let bare = format!("n={name},r=theirs");
    let (scram, answer) = Scram::begin(mechanism, format!("{header}{bare}").as_bytes(), &nonce(), &strangers(), |_| known.cloned())?;
    let answer = String::from_utf8(answer).expect("text");
    let (proof, expected) = prove(mechanism, &bare, &answer, password, header);
    let (user, shown) = scram.finish(proof.as_bytes())?;
    assert_eq!(String::from_utf8(shown).expect("text"), expected, "the server shows that it knows the user");
    Ok(user)
}

/// librdkafka before 2.6.1 says its nonce once more in front of both (its pull request 4895). Nothing else may stand there.
#[test]
fn a_nonce_that_is_said_twice_is_taken() {
    let credential = Credential::of_password(Mechanism::ScramSha256, b"secret", MANY);
    for (again, is_taken) in [("", true), ("theirs", true), ("theirstheirs", false), ("others", false)] {
        let begun = Scram::begin(Mechanism::ScramSha256, b"n,,n=user,r=theirs", &nonce(), &strangers(), |_| Some(credential.clone()));
        let (scram, answer) = begun.expect("it begins");
        let answer = String::from_utf8(answer).expect("text");
        let (proof, _) = prove_again(Mechanism::ScramSha256, "n=user,r=theirs", &answer, b"secret", "n,,", again);
        assert_eq!(scram.finish(proof.as_bytes()).is_ok(), is_taken, "{again}");
    }
}

#[test]
fn the_exchange_of_rfc_7677() {
    let salt = base64::decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    let mut salted = [0; 32];
    ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, MANY, &salt, b"pencil", &mut salted);
    let credential = Credential::of_salted(Mechanism::ScramSha256, &salted, salt, MANY.get());
    let find = |user: &str| (user == "user").then(|| credential.clone());
    let (first, ours) = (b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    let (scram, answer) = Scram::begin(Mechanism::ScramSha256, first, ours, &strangers(), find).expect("it begins");
    assert_eq!(
        String::from_utf8(answer).expect("text"),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (user, shown) = scram.finish(last).expect("the password is right");
    assert_eq!((&*user, &*shown), ("user", &b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="[..]));
    assert!(check_password(&credential, Mechanism::ScramSha256, b"pencil"));
    assert!(!check_password(&credential, Mechanism::ScramSha256, b"Pencil"));
}

#[test]
fn users_come_in_by_both_mechanisms_with_their_password_alone() {
    for mechanism in Mechanism::ALL {
        let credential = Credential::of_password(mechanism, b"secret", MANY);
        assert_eq!(credential.fault(mechanism), None);
        let with = |header: &str, name: &str, password: &[u8]| exchange(mechanism, header, name, Some(&credential), password);
        assert_eq!(with("n,,", "ann", b"secret").as_deref(), Ok("ann"));
        assert_eq!(with("y,,", "ann", b"secret").as_deref(), Ok("ann"));
        assert_eq!(with("n,a=ann,", "ann", b"secret").as_deref(), Ok("ann"), "who acts for herself says so");
        assert_eq!(with("n,,", "a=2Cb=3Dc", b"secret").as_deref(), Ok("a,b=c"));
        assert_eq!(with("n,,", "ann", b"secre"), Err(Refused::Wrong));
        assert_eq!(with("n,a=bob,", "ann", b"secret"), Err(Refused::OtherUser));
        assert_eq!(with("p=tls-unique,,", "ann", b"secret"), Err(Refused::Unsupported("channel binding")));
        assert!(check_password(&credential, mechanism, b"secret") && !check_password(&credential, mechanism, b""));
        assert_eq!(exchange(mechanism, "n,,", "eve", None, b"secret"), Err(Refused::Wrong), "as a wrong password");
    }
}

#[test]
fn who_is_no_user_is_not_told_so() {
    let ask = |name: &str| {
        let first = format!("n,,n={name},r=theirs");
        let (_, answer) = Scram::begin(Mechanism::ScramSha512, first.as_bytes(), "ours", &strangers(), |_| None).expect("it begins");
        String::from_utf8(answer).expect("text")
    };
    let answer = ask("nobody");
    assert_eq!(answer, ask("nobody"), "the same salt each time");
    assert_ne!(answer, ask("nobody2"));
    assert!(answer.starts_with("r=theirsours,s=") && answer.ends_with(&format!(",i={ITERATIONS_DEFAULT}")), "{answer}");
    let real = Credential::of_password(Mechanism::ScramSha512, b"x", MANY);
    let made_up = strangers().credential(Mechanism::ScramSha512, "nobody");
    assert_eq!((real.salt.len(), real.stored_key.len()), (made_up.salt.len(), made_up.stored_key.len()));
    assert_eq!(made_up.fault(Mechanism::ScramSha512), None);
}

#[test]
fn first_messages_that_are_refused() {
    let ask = |first: &str| Scram::begin(Mechanism::ScramSha256, first.as_bytes(), "ours", &strangers(), |_| None).map(drop);
    assert_eq!(ask("n,,n=user,r=nonce,whatever=x"), Ok(()), "an extension that may be left out");
    assert_eq!(ask("n,,n=user,r=nonce,tokenauth=true"), Err(Refused::Unsupported("a delegation token")));
    assert_eq!(ask("n,,m=x,n=user,r=nonce"), Err(Refused::Unsupported("a mandatory extension")));
    let long = "x".repeat(USER_BYTES_MAX + 1);
    for first in [
        "",
        "n",
        "n,",
        "n,,",
        "x,,n=user,r=nonce",
        "n,bob,n=user,r=nonce",
        "n,,user,r=nonce",
        "n,,n=,r=nonce",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=us=2cer,r=nonce",
        "n,,n=user=,r=nonce",
        "n,,n=user=2,r=nonce",
        "n,,n=us=é,r=nonce",
        "n,,n=us\0er,r=nonce",
        "n,,n=user,r=nonce,",
        "n,,n=user,r=nonce,=x",
        &format!("n,,n={long},r=nonce"),
        &format!("n,,n=user,r={}", "x".repeat(NONCE_BYTES_MAX + 1)),
        &format!("n,,n=user,r=nonce,a={}", "x".repeat(MESSAGE_BYTES_MAX)),
    ] {
        assert!(matches!(ask(first), Err(Refused::Malformed(_))), "{first:?}: {:?}", ask(first));
    }
}

#[test]
fn last_messages_that_are_refused() {
    let credential = Credential::of_password(Mechanism::ScramSha256, b"secret", MANY);
    let bare = "n=user,r=theirs";
    let say = |change: &dyn Fn(String) -> String| {
        let first = format!("n,,{bare}");
        let find = |_: &str| Some(credential.clone());
        let (scram, answer) = Scram::begin(Mechanism::ScramSha256, first.as_bytes(), "ours", &strangers(), find).expect("it begins");
        let (last, _) = prove(Mechanism::ScramSha256, bare, &String::from_utf8(answer).expect("text"), b"secret", "n,,");
        scram.finish(change(last).as_bytes()).map(drop)
    };
    assert_eq!(say(&|last| last), Ok(()));
    for change in [
        |_: String| String::new(),
        |last: String| last.replace("theirsours", "theirs"),
        |last: String| last.replace("theirsours", "theirsother"),
        |last: String| last.replace("theirsours", "theirsoursmore"),
        |last: String| last.replace("c=biws", "c=eSws"),
        |last: String| last.replace(",p=", ",q="),
        |last: String| last[..last.len() - 4].to_owned(),
        |last: String| format!("{last}AAAA"),
        |last: String| format!("{last},x=y"),
    ] {
        assert!(matches!(say(&change), Err(Refused::Malformed(_))), "{}", change("c=biws,r=theirsours,p=...".into()));
    }
    assert_eq!(say(&|last| last.replace(",p=", ",x=y,p=")), Err(Refused::Wrong), "what was not signed");
    assert_eq!(say(&|last| last.replace(",p=", ",m=y,p=")), Err(Refused::Unsupported("a mandatory extension")));
}

proptest! {
    #[test]
    fn whatever_comes_is_answered(bytes: Vec<u8>, last: Vec<u8>) {
        let begun = Scram::begin(Mechanism::ScramSha256, &bytes, "ours", &strangers(), |_| None);
        prop_assert!(begun.is_err() || bytes.len() > 8);
        let (scram, _) = Scram::begin(Mechanism::ScramSha256, b"n,,n=user,r=theirs", "ours", &strangers(), |_| None).expect("it begins");
        prop_assert!(scram.finish(&last).is_err());
    }

    #[test]
    fn whatever_nearly_is_a_message_is_answered(
        first in "[ynp](=.{0,3})?,(a=.{0,5})?,(m=.{0,2},)?n=.{0,8}(=2C|=3D|=)?.{0,4},r=.{0,8}(,.{0,3}=.{0,4})?",
        last in "c=(biws|.{0,4}),r=(theirs|.{0,3})(ours|.{0,3}),(.{0,3}=.{0,3},)?p=[A-Za-z0-9+/]{0,44}={0,3}",
    ) {
        if let Ok((scram, answer)) = Scram::begin(Mechanism::ScramSha512, first.as_bytes(), "ours", &strangers(), |_| None) {
            prop_assert!(answer.starts_with(b"r="));
            prop_assert!(scram.finish(last.as_bytes()).is_err());
        }
        let (scram, _) = Scram::begin(Mechanism::ScramSha256, b"n,,n=user,r=theirs", "ours", &strangers(), |_| None).expect("it begins");
        prop_assert!(scram.finish(last.as_bytes()).is_err());
    }

    #[test]
    fn names_are_read_as_they_were_written(name in ".{1,60}") {
        prop_assume!(!name.contains('\0') && name.len() <= USER_BYTES_MAX);
        let written = name.replace('=', "=3D").replace(',', "=2C");
        prop_assert_eq!(name_of(&written), Ok(name));
    }
}
