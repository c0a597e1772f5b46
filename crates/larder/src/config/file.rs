//! The configuration file: TOML to checked settings, with the line of each.

use std::io::{ErrorKind as IoErrorKind, Read as _};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::interpolate::interpolate;
use super::kind::Kind;
use super::origin::Origin;
use super::path::SettingPath;
use super::problems::{Problems, quoted, with_article};
use super::schema::{self, Field, MAX_NODES};
use super::seeds;
use super::settings::Draft;
use super::sources::{Environment, FileSource};
use super::suggest::closest;
use super::value::Raw;
use crate::error::{Error, ErrorKind, Result};

/// The largest file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the text of the source, with the name to show; `None` when there is none.
///
/// # Errors
/// `InvalidConfig`: the file is required and missing, cannot be read, is no UTF-8, or is over 1 MiB.
pub(super) fn read(source: &FileSource) -> Result<Option<(PathBuf, String)>> {
    let (path, required) = match source {
        FileSource::None => return Ok(None),
        FileSource::Text { name, text } => return Ok(Some((name.clone(), text.clone()))),
        FileSource::Required(path) => (path, true),
        FileSource::Optional(path) => (path, false),
    };
    match read_bounded(path) {
        Ok(text) => Ok(Some((path.clone(), text))),
        Err(error) if error.kind() == IoErrorKind::NotFound && !required => Ok(None),
        Err(error) => {
            let hint = match error.kind() {
                IoErrorKind::NotFound => "; `larder config init` writes one",
                _ => "",
            };
            let message = format!("cannot read {}: {error}{hint}", path.display());
            Err(Error::new(ErrorKind::InvalidConfig, message).caused_by(error))
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("it is over 1 MiB"));
    }
    Ok(text)
}

/// Reads all settings of a file's text into the draft.
///
/// # Errors
/// `InvalidConfig`: the text is not TOML; each place where it is not. What is wrong with settings
/// becomes a problem of the draft instead.
pub(super) fn apply(
    name: &Path,
    text: &str,
    environment: &Environment,
    draft: &mut Draft,
) -> Result<()> {
    let mut reader = Reader {
        name,
        text,
        environment,
        draft,
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        reader.table(&SettingPath::default(), document.get_ref());
        return Ok(());
    }
    let mut problems = Problems::default();
    for error in &errors {
        let start = error.span().map_or(0, |span| span.start);
        problems.push(&reader.origin(start), error.message());
    }
    Err(problems.into_error())
}

struct Reader<'a> {
    name: &'a Path,
    text: &'a str,
    environment: &'a Environment,
    draft: &'a mut Draft,
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Origin::File {
            path: self.name.to_owned(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    }

    fn table(&mut self, path: &SettingPath, table: &DeTable<'_>) {
        for (key, value) in table {
            let place = path.child(key.get_ref().as_ref());
            let origin = self.origin(key.span().start);
            self.key(place, value, &origin);
        }
    }

    fn key(&mut self, place: SettingPath, value: &Spanned<DeValue<'_>>, origin: &Origin) {
        if let Some(field) = schema::find(&place) {
            self.setting(place, field, value, origin);
        } else if schema::is_list_of_tables(&place) {
            self.list_of_tables(&place, value, origin);
        } else if schema::is_table(&place) {
            match value.get_ref() {
                DeValue::Table(table) => {
                    self.draft.settings.add_table(&place, origin);
                    self.table(&place, table);
                }
                other => {
                    let given = with_article(other.type_str());
                    let message = format!("{place} must be a table, [{place}], not {given}");
                    self.draft.problem(origin, message);
                }
            }
        } else {
            self.unknown(&place, value, origin);
        }
    }

    fn list_of_tables(
        &mut self,
        place: &SettingPath,
        value: &Spanned<DeValue<'_>>,
        origin: &Origin,
    ) {
        self.draft.settings.add_table(place, origin);
        let elements = match value.get_ref() {
            DeValue::Array(elements) if elements.len() <= MAX_NODES => elements,
            DeValue::Array(_) => {
                let message = format!("{place} has more than {MAX_NODES} elements");
                return self.draft.problem(origin, message);
            }
            other => {
                let message = format!(
                    "{place} must be a list of tables, not {}",
                    with_article(other.type_str())
                );
                return self.draft.problem(origin, message);
            }
        };
        for (index, element) in elements.iter().enumerate() {
            let element_place = place.child(index.to_string());
            let origin = self.origin(element.span().start);
            self.key(element_place, element, &origin);
        }
    }

    fn setting(
        &mut self,
        place: SettingPath,
        field: &'static Field,
        value: &Spanned<DeValue<'_>>,
        origin: &Origin,
    ) {
        match self.raw(value.get_ref()) {
            Ok(raw) => {
                let raw = self.relative_to_file(field, raw);
                self.draft.set(place, field, &raw, origin.clone());
            }
            Err(message) => {
                self.draft.problem(origin, format!("{place} {message}"));
                self.draft.settings.add_table(&place.parent(), origin);
                self.draft.settings.mark_broken(place);
            }
        }
    }

    fn raw(&self, value: &DeValue<'_>) -> std::result::Result<Raw, String> {
        Ok(match value {
            DeValue::String(text) => match interpolate(text, self.environment)? {
                replaced if replaced.as_ref() == text.as_ref() => Raw::Text(text.to_string()),
                replaced => Raw::Loose(replaced.into_owned()),
            },
            DeValue::Boolean(flag) => Raw::Bool(*flag),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Raw::Other("too large integer"), Raw::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or(Raw::Other("malformed float"), Raw::Float),
            DeValue::Array(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match self.raw(item.get_ref())? {
                        Raw::Text(text) | Raw::Loose(text) => texts.push(text),
                        _ => return Ok(Raw::Other("list with other things than strings")),
                    }
                }
                Raw::List(texts)
            }
            DeValue::Datetime(_) | DeValue::Table(_) => Raw::Other(value.type_str()),
        })
    }

    /// Makes a path of the file relative to the file's directory.
    fn relative_to_file(&self, field: &Field, raw: Raw) -> Raw {
        let directory = self.name.parent().and_then(Path::to_str).unwrap_or("");
        match raw {
            Raw::Text(text) | Raw::Loose(text)
                if field.kind == Kind::Path
                    && !directory.is_empty()
                    && !text.is_empty()
                    && !text.starts_with(['/', '~']) =>
            {
                Raw::Text(format!("{directory}/{text}"))
            }
            other => other,
        }
    }

    fn unknown(&mut self, place: &SettingPath, value: &Spanned<DeValue<'_>>, origin: &Origin) {
        if let Some(seed) = seeds::find(place) {
            return match seed.ours {
                Some(ours) => {
                    let note = seed.note;
                    let message = format!("{place} is called {ours} here: {note}");
                    self.draft.problem(origin, message);
                }
                None => {
                    let message = format!("{place} has no effect: {}", seed.note);
                    self.draft.warn(origin, &message);
                }
            };
        }
        match value.get_ref() {
            DeValue::Table(table) if seeds::is_table(place) => self.table(place, table),
            DeValue::Array(items) if seeds::is_table(place) => {
                for (index, item) in items.iter().enumerate() {
                    let origin = self.origin(item.span().start);
                    self.unknown(&place.child(index.to_string()), item, &origin);
                }
            }
            _ => {
                let message = format!(
                    "unknown key {}{}",
                    quoted(&place.to_string()),
                    suggestion(place)
                );
                self.draft.problem(origin, message);
                self.not_missing(place);
            }
        }
    }

    /// Keeps the setting that was meant by a mistyped key from being reported as missing as well.
    fn not_missing(&mut self, place: &SettingPath) {
        let table = place.parent();
        if let Some(meant) = closest(place.last(), schema::keys_of(&table)) {
            self.draft.settings.mark_broken(table.child(meant));
        }
    }
}

/// Suggests a key of the same table, else the place of a key of exactly this name.
pub(super) fn suggestion(place: &SettingPath) -> String {
    let key = place.last();
    if let Some(found) = closest(key, schema::keys_of(&place.parent())) {
        return format!(", did you mean \"{found}\"?");
    }
    schema::fields()
        .find(|field| field.key() == key)
        .map(|field| format!(", did you mean \"{}\"?", field.path))
        .unwrap_or_default()
}
