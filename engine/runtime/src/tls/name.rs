//! What a certificate calls its owner.

use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use x509_parser::{
    der_parser::{Oid, oid},
    prelude::{AttributeTypeAndValue, FromDer, X509Certificate},
};

/// Types of attributes that have a name of their own in RFC 2253, section 2.3; others are written as numbers.
static NAMED: [(Oid<'static>, &str); 9] = [
    (oid!(2.5.4.3), "CN"),
    (oid!(2.5.4.7), "L"),
    (oid!(2.5.4.8), "ST"),
    (oid!(2.5.4.10), "O"),
    (oid!(2.5.4.11), "OU"),
    (oid!(2.5.4.6), "C"),
    (oid!(2.5.4.9), "STREET"),
    (oid!(0.9.2342.19200300.100.1.25), "DC"),
    (oid!(0.9.2342.19200300.100.1.1), "UID"),
];

/// The distinguished name of whom a certificate was made for, as RFC 2253 writes it, and as Java does (`X500Principal.getName()`), so that rules for principals of
/// Kafka go by the same names. Nothing if there is no name in it.
pub(super) fn of(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    let mut parts: Vec<String> = Vec::new();
    for part in cert.subject().iter_rdn() {
        let some: Vec<String> = part.iter().map(attribute).collect();
        parts.push(some.join("+"));
    }
    // The last part of the certificate's is the first that is written.
    parts.reverse();
    Some(parts.join(",")).filter(|name| !name.is_empty())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let named = NAMED.iter().find(|(oid, _)| oid == attribute.attr_type());
    match (named, attribute.as_str()) {
        (Some((_, name)), Ok(text)) => format!("{name}={}", escaped(text)),
        (named, _) => {
            let value = attribute.attr_value();
            let mut out = named.map_or_else(|| attribute.attr_type().to_id_string(), |(_, name)| (*name).to_owned());
            out.push_str("=#");
            for byte in header(value.data.len(), value.header.tag().0).iter().chain(value.data) {
                write!(out, "{byte:02x}").expect("a text takes all");
            }
            out
        }
    }
}

/// What comes before a value in DER.
fn header(len: usize, tag: u32) -> Vec<u8> {
    let mut out = vec![tag as u8];
    match len {
        0..128 => out.push(len as u8),
        _ => {
            let bytes = len.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out
}

fn escaped(text: &str) -> String {
    let (first, last) = (text.len() - text.trim_start_matches(' ').len(), text.trim_end_matches(' ').len());
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let is_edge = c == ' ' && (at < first || at >= last);
        if is_edge || ",=+<>#;\"\\".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    fn name(parts: &[(DnType, &str)]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (what, value) in parts {
            params.distinguished_name.push(what.clone(), DnValue::Utf8String((*value).into()));
        }
        let cert = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        of(cert.der())
    }

    #[test]
    fn names_are_written_from_the_last_part_to_the_first() {
        let parts = [(DnType::CountryName, "DE"), (DnType::OrganizationName, "Mill, pond"), (DnType::CommonName, "alice")];
        assert_eq!(name(&parts).as_deref(), Some("CN=alice,O=Mill\\, pond,C=DE"));
        assert_eq!(name(&[(DnType::CommonName, " a #=b\\ ")]).as_deref(), Some("CN=\\ a \\#\\=b\\\\\\ "));
        assert_eq!(name(&[]), None);
    }

    /// What has no name in RFC 2253 is written by its number, and its value as bytes.
    #[test]
    fn what_has_no_name_is_written_as_it_is() {
        let title = DnType::CustomDnType(vec![2, 5, 4, 12]);
        assert_eq!(name(&[(DnType::CommonName, "a"), (title.clone(), "Dr")]).as_deref(), Some("2.5.4.12=#0c024472,CN=a"));
        let long = "x".repeat(200);
        let hex = "78".repeat(200);
        assert_eq!(name(&[(title, &long)]), Some(format!("2.5.4.12=#0c81c8{hex}")));
    }
}
