use super::*;

const SALT: &str = "c2FsdA==";

fn user() -> User {
    User::new("a=b,c".into(), "secret".into())
}

fn prove(server_first: &str) -> Result<(Proven, String), String> {
    let (exchange, _) = user().begin_with("ours".into());
    exchange.prove(server_first.as_bytes())
}

#[test]
fn a_name_is_written_so_that_it_can_be_read() {
    let (_, message) = user().begin_with("ours".into());
    assert_eq!(message, "n,,n=a=3Db=2Cc,r=ours");
    let (_, other) = user().begin().expect("there is randomness");
    let (_, another) = user().begin().expect("there is randomness");
    assert_ne!(other, another, "a nonce is used once");
}

/// As a server has it that knows the keys alone: the proof shows the client's key, whose digest is kept.
#[test]
fn the_proof_shows_what_the_server_keeps_and_the_server_must_show_as_much() {
    let first = format!("r=ourstheirs,s={SALT},i=4096");
    let (proven, message) = prove(&first).expect("it is a challenge");
    let mut salted = [0; KEY_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, NonZeroU32::new(4_096).expect("not zero"), b"salt", b"secret", &mut salted);
    let stored_key = digest::digest(&digest::SHA512, sign(&salted, b"Client Key").as_ref());
    let (without_proof, proof) = message.rsplit_once(",p=").expect("there is a proof");
    assert_eq!(without_proof, "c=biws,r=ourstheirs");
    let signed = format!("n=a=3Db=2Cc,r=ours,{first},{without_proof}");
    let proof = BASE64_STANDARD.decode(proof).expect("base64");
    let key: Vec<u8> = proof.iter().zip(sign(stored_key.as_ref(), signed.as_bytes()).as_ref()).map(|(a, b)| a ^ b).collect();
    assert_eq!(digest::digest(&digest::SHA512, &key).as_ref(), stored_key.as_ref());

    let signature = BASE64_STANDARD.encode(sign(sign(&salted, b"Server Key").as_ref(), signed.as_bytes()));
    proven.check(format!("v={signature}").as_bytes()).expect("it knows the password");
    proven.check(format!("v={signature},x=y").as_bytes()).expect("extensions are left out");
    let other = BASE64_STANDARD.encode([7; KEY_BYTES]);
    for wrong in [format!("v={other}"), "v=".into(), "v=!".into(), signature, "e=other-error".into(), String::new()] {
        proven.check(wrong.as_bytes()).expect_err("it does not show that it knows the password");
    }
    proven.check(&[0xff]).expect_err("it is no text");
}

#[test]
fn challenges_that_are_none_are_refused() {
    for wrong in [
        String::new(),
        format!("r=theirs,s={SALT},i=4096"),
        format!("r=ours,s={SALT},i=4096"),
        "r=ourstheirs,s=,i=4096".into(),
        "r=ourstheirs,s=!,i=4096".into(),
        format!("r=ourstheirs,s={SALT},i=4095"),
        format!("r=ourstheirs,s={SALT},i=1000001"),
        format!("r=ourstheirs,s={SALT},i=many"),
        format!("r=ourstheirs,s={SALT}"),
        format!("m=x,r=ourstheirs,s={SALT},i=4096"),
        format!("s={SALT},r=ourstheirs,i=4096"),
        format!("r=ours{},s={SALT},i=4096", "x".repeat(MESSAGE_BYTES_MAX)),
    ] {
        assert!(prove(&wrong).is_err(), "{wrong} was taken");
    }
}

#[test]
fn what_is_derived_is_kept_for_the_same_salt_alone() {
    let user = user();
    let iterations = NonZeroU32::new(4_096).expect("not zero");
    let one = user.salted(b"salt", iterations);
    assert_eq!(user.salted(b"salt", iterations), one);
    assert_ne!(user.salted(b"other", iterations), one);
    assert_eq!(user.salted(b"salt", iterations), one);
    assert!(!format!("{user:?}").contains("secret"));
}
