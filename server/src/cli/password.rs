//! Passwords: read from a file, from standard input, or from a terminal that does not show them.

use super::fail::{Fail, Result};
use crate::security::PASSWORD_BYTES_MAX;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal},
    path::Path,
    process::{Command, Stdio},
};

/// The first line of the file that an option names, or of standard input; a terminal is asked, and does not show what is typed.
pub(super) fn read(file: Option<&Path>, option: &str, question: &str) -> Result<Vec<u8>> {
    let line = match file.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let doing = || format!("read the password from {}", path.display());
            let file = File::open(path).map_err(|e| Fail::io(doing(), &e))?;
            first_line(BufReader::new(file)).map_err(|e| Fail::io(doing(), &e))?
        }
        None => {
            let _silent = io::stdin().is_terminal().then(|| Silent::begin(question));
            first_line(io::stdin().lock()).map_err(|e| Fail::io("read the password from standard input", &e))?
        }
    };
    if line.is_empty() || line.len() > PASSWORD_BYTES_MAX {
        let message = format!("a password of {} bytes, from 1 to {PASSWORD_BYTES_MAX} are taken", line.len());
        return Err(Fail::new(message, format!("write it into the first line of {option}, or of standard input")));
    }
    Ok(line)
}

/// Up to its end, which is not a part of it; of one that is too long no more than shows that.
fn first_line(from: impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(PASSWORD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent;

impl Silent {
    fn begin(question: &str) -> Self {
        eprint!("{question}");
        Self::stty("-echo");
        Self
    }

    /// Where there is no stty, what is typed is seen: that is no reason to refuse it.
    fn stty(arg: &str) {
        let _ = Command::new("stty").arg(arg).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        Self::stty("echo");
        eprintln!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        for (text, line) in [("a b\nc", "a b"), ("a\r\n", "a"), ("a", "a"), ("", ""), ("\nx", ""), (" a \n", " a ")] {
            assert_eq!(first_line(text.as_bytes()).expect("memory can be read"), line.as_bytes(), "{text:?}");
        }
        let long = "x".repeat(5_000);
        assert!(first_line(long.as_bytes()).expect("memory can be read").len() > PASSWORD_BYTES_MAX);
    }
}
