//! Reads lines on a thread of its own, so that waiting for input does not keep Ctrl-C waiting.

use std::io::{self, BufRead, BufReader, Read};
use std::thread;

use tokio::sync::mpsc;

use super::MAX_LINE_BYTES;

/// Bytes that are handed over together.
const BATCH_BYTES: u64 = 64 << 10;
/// Batches that may wait.
const WAITING_BATCHES: usize = 2;

/// Some lines of the input, without their line breaks.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) lines: Vec<Vec<u8>>,
    /// How many bytes of input they are.
    pub(crate) bytes: u64,
}

/// The receiving end of the thread, which ends when this is dropped or the input is read.
#[derive(Debug)]
pub(crate) struct Reader(mpsc::Receiver<io::Result<Batch>>);

impl Reader {
    pub(crate) fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_BATCHES);
        let work = move || {
            let mut input = BufReader::with_capacity(BATCH_BYTES as usize, input);
            while let Some(batch) = read_batch(&mut input).transpose() {
                let failed = batch.is_err();
                if sender.blocking_send(batch).is_err() || failed {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("larder-import".into())
            .spawn(work)?;
        Ok(Self(receiver))
    }

    /// Returns the next lines, `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Batch>> {
        self.0.recv().await.transpose()
    }
}

/// Reads lines until there are enough of them, or until the next one would have to be waited for.
fn read_batch(input: &mut BufReader<impl Read>) -> io::Result<Option<Batch>> {
    let mut batch = Batch::default();
    loop {
        let mut line = Vec::new();
        let read = input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            break;
        }
        if line.pop_if(|last| *last == b'\n').is_none() && read == MAX_LINE_BYTES {
            let message = format!("a line is longer than {MAX_LINE_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        batch.bytes += read;
        batch.lines.push(line);
        let has_next = input.buffer().contains(&b'\n');
        if batch.bytes >= BATCH_BYTES || !has_next {
            break;
        }
    }
    Ok((batch.bytes > 0).then_some(batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_line_arrives_once_and_in_order() {
        let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        let mut reader = Reader::start(io::Cursor::new(text.clone())).unwrap();
        let mut lines = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = reader.next().await.unwrap() {
            bytes += batch.bytes;
            lines.extend(batch.lines);
        }
        assert_eq!(bytes, text.len() as u64);
        assert_eq!(lines.len(), 20_000);
        assert_eq!(lines[19_999], b"line 19999");
    }
}
