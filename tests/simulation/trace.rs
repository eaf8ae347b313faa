//! Everything that happens in a run, in readable form.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};

/// The use of a trace. Writing it takes longer than the run itself, so most runs omit it: each of them
/// can be run again with its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Nothing.
    Nothing,
    /// Its bytes are counted and digested.
    Digest,
    /// It is printed.
    Print,
}

/// A trace under way.
pub(crate) struct Trace {
    show: Show,
    digest: Digest,
}

/// The number of bytes of a trace, and what they hash to.
#[derive(Default)]
struct Digest {
    bytes: u64,
    hasher: DefaultHasher,
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += u64::try_from(text.len()).expect("small");
        self.hasher.write(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(show: Show) -> Self {
        Self {
            show,
            digest: Digest::default(),
        }
    }

    /// Something happened at `now`. The line is made only if it is used.
    pub(crate) fn line(&mut self, now: u64, line: fmt::Arguments<'_>) {
        match self.show {
            Show::Nothing => {}
            Show::Digest => writeln!(self.digest, "{now:>6} {line}").expect("a digest takes all"),
            Show::Print => println!("{now:>6} {line}"),
        }
    }

    /// The number of bytes of the trace, and their hash; zero unless it is digested.
    pub(crate) fn digest(&self) -> (u64, u64) {
        (self.digest.bytes, self.digest.hasher.finish())
    }
}
