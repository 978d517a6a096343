//! A recorded dump that stands in for the kernel: what was received, datagram by datagram.
//!
//! The form: for every datagram its length as a little-endian u32, then its bytes. A file holds the dumps in
//! the order in which they were asked for; each ends with NLMSG_DONE.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::netlink::fold;
use super::{DumpError, Outcome, Request, Row, Sockets};

/// Writes datagrams as they are received.
#[derive(Debug)]
pub struct Recorder(BufWriter<File>);

impl Recorder {
    /// Makes the file, or empties it.
    pub fn create(path: &Path) -> io::Result<Recorder> {
        Ok(Recorder(BufWriter::new(File::create(path)?)))
    }

    pub(super) fn datagram(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(bytes)?;
        self.0.flush()
    }
}

/// Gives recorded dumps again, one for each request, whatever it asks for.
#[derive(Clone, Debug)]
pub struct Recording {
    bytes: Vec<u8>,
    at: usize,
}

impl Recording {
    /// A recording from the bytes of its file.
    pub fn new(bytes: Vec<u8>) -> Recording {
        Recording { bytes, at: 0 }
    }

    /// Reads a recording.
    pub fn open(path: &Path) -> io::Result<Recording> {
        Ok(Recording::new(std::fs::read(path)?))
    }
}

impl Sockets for Recording {
    fn dump(&mut self, _: &Request, each: &mut dyn FnMut(&Row<'_>)) -> Result<Outcome, DumpError> {
        let mut outcome = Outcome::default();
        loop {
            let rest = &self.bytes[self.at..];
            let length =
                rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(DumpError::Incomplete)?;
            let end = usize::try_from(length).ok().and_then(|length| length.checked_add(4));
            let datagram = end.and_then(|end| rest.get(4..end)).ok_or(DumpError::Incomplete)?;
            self.at += 4 + datagram.len();
            if fold(datagram, None, &mut outcome, each)? {
                return Ok(outcome);
            }
        }
    }
}
