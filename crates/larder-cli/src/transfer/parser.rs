//! Makes sense of lines in their order, and says at which line that ended.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{EntryLine, Header, Trailer, VERSION};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// Where in the file we are.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: u64,
    entries: u64,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Entries,
    End,
}

/// Enough of a line to tell an entry from the trailer.
#[derive(Debug, Deserialize)]
struct Probe {
    #[serde(default)]
    entries: Option<u64>,
}

impl Parser {
    /// Takes the next line; returns the entry it holds, if it is one.
    ///
    /// # Errors
    /// The line is malformed, or not at its place.
    pub(crate) fn entry(&mut self, line: &[u8]) -> Outcome<Option<EntryLine>> {
        self.line += 1;
        let parsed = match self.state {
            State::Start => self.header(line).map(|()| None),
            State::Entries => self.entry_or_trailer(line),
            State::End => Err(malformed("there is more after the last line")),
        };
        parsed.map_err(|failure| self.place(&failure))
    }

    /// Checks that the last line has come.
    pub(crate) fn finish(&self) -> Outcome<()> {
        match self.state {
            State::End => Ok(()),
            State::Start => Err(malformed("the file is empty")),
            State::Entries => Err(malformed(&format!(
                "the file ends after line {} without its last line: it is incomplete",
                self.line
            ))),
        }
    }

    /// Says at which line it failed.
    pub(crate) fn place(&self, failure: &Failure) -> Failure {
        let message = format!("line {}: {}", self.line, failure.message());
        let exit = match failure.exit() {
            Exit::Refused => Exit::Failed,
            other => other,
        };
        Failure::new(exit, failure.kind(), message)
    }

    fn header(&mut self, line: &[u8]) -> Outcome<()> {
        let header: Header = parse(line)
            .map_err(|failure| malformed(&format!("this is no export: {}", failure.message())))?;
        if header.larder_export != VERSION {
            return Err(malformed(&format!(
                "version {} of the format is not supported, only {VERSION}",
                header.larder_export
            )));
        }
        self.state = State::Entries;
        Ok(())
    }

    fn entry_or_trailer(&mut self, line: &[u8]) -> Outcome<Option<EntryLine>> {
        if parse::<Probe>(line)?.entries.is_none() {
            self.entries += 1;
            return parse(line).map(Some);
        }
        let trailer: Trailer = parse(line)?;
        if trailer.entries != self.entries {
            return Err(malformed(&format!(
                "{} entries were exported, but {} are here",
                trailer.entries, self.entries
            )));
        }
        self.state = State::End;
        Ok(None)
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Outcome<T> {
    serde_json::from_slice(line).map_err(|error| malformed(&describe(&error)))
}

/// Returns the error without serde's own line number, which is always 1.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what} (column {})", error.column()),
        None => text,
    }
}

fn malformed(message: &str) -> Failure {
    Failure::new(Exit::Failed, "malformed", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"larder_export":1,"cache":"default","created_ms":1}"#;
    const ENTRY: &str = r#"{"key":"k","value":"v"}"#;

    fn read(lines: &[&str]) -> Outcome<u64> {
        let mut parser = Parser::default();
        for line in lines {
            parser.entry(line.as_bytes())?;
        }
        parser.finish()?;
        Ok(parser.entries)
    }

    #[test]
    fn a_complete_file_is_read() {
        assert_eq!(
            read(&[HEADER, ENTRY, ENTRY, r#"{"entries":2}"#]).unwrap(),
            2
        );
        assert_eq!(read(&[HEADER, r#"{"entries":0}"#]).unwrap(), 0);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let trailer = r#"{"entries":1}"#;
        for (lines, expected) in [
            (vec![], "empty"),
            (vec![ENTRY], "line 1: this is no export"),
            (vec![HEADER, ENTRY], "incomplete"),
            (vec![HEADER, ENTRY, "{"], "line 3: "),
            (
                vec![HEADER, r#"{"key":"k","what":1}"#],
                "line 2: unknown field",
            ),
            (vec![HEADER, trailer], "line 2: 1 entries were exported"),
            (vec![HEADER, ENTRY, trailer, ENTRY], "line 4: there is more"),
            (vec![HEADER, ""], "line 2: "),
        ] {
            let failure = read(&lines).unwrap_err();
            assert!(failure.message().contains(expected), "{failure:?}");
            assert_eq!(failure.exit(), Exit::Failed);
        }
        let other = HEADER.replace(":1,\"cache", ":2,\"cache");
        let failure = read(&[&other]).unwrap_err();
        assert!(failure.message().contains("version 2"));
    }
}
