//! What is in a store's file: its tables, and how they are read and written.

use protocol::Label;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use crate::journal::Batch;
use crate::message::Message;
use crate::store::{ContentError, Kept};

/// Makes a new database a store.
pub(super) fn begin(database: &Database, realm: &Label) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut about = writing.open_table(ABOUT)?;
        about.insert("format", FORMAT)?;
        about.insert("realm", realm.as_str())?;
        about.insert("state", "new")?;
        writing.open_table(RETAINED)?;
        writing.open_table(WILLS)?;
    }
    Ok(writing.commit()?)
}

/// The mark of a store's last transaction.
pub(super) fn about(
    database: &Database,
    realm: &Label,
) -> Result<Result<String, ContentError>, redb::Error> {
    let reading = database.begin_read()?;
    if !reading
        .list_tables()?
        .any(|table| table.name() == ABOUT.name())
    {
        return Ok(Err(ContentError::Foreign));
    }
    let about = reading.open_table(ABOUT)?;
    let found = |key| -> Result<String, redb::Error> {
        let value = about.get(key)?;
        Ok(value
            .map(|value| value.value().to_owned())
            .unwrap_or_default())
    };
    let (format, owner) = (found("format")?, found("realm")?);
    if format != FORMAT {
        return Ok(Err(ContentError::Format { found: format }));
    }
    if owner != realm.as_str() {
        return Ok(Err(ContentError::Realm { realm: owner }));
    }
    Ok(Ok(found("state")?))
}

/// Everything in a store.
pub(super) fn read(database: &Database) -> Result<Result<Kept, ContentError>, redb::Error> {
    let reading = database.begin_read()?;
    let mut kept = Kept::default();
    for entry in reading.open_table(RETAINED)?.iter()? {
        let (topic, bytes) = entry?;
        match Message::decode(bytes.value()) {
            Some(message) if message.topic.as_str() == topic.value() => kept.retained.push(message),
            Some(_) | None => {
                let key = topic.value().to_owned();
                return Ok(Err(ContentError::Entry { key }));
            }
        }
    }
    for entry in reading.open_table(WILLS)?.iter()? {
        let (client_id, bytes) = entry?;
        let client_id = client_id.value();
        let Some(will) = Message::decode(bytes.value()) else {
            let key = client_id.to_owned();
            return Ok(Err(ContentError::Entry { key }));
        };
        kept.wills.push((client_id.into(), will));
    }
    Ok(Ok(kept))
}

pub(super) fn write(database: &Database, batch: &Batch, state: &str) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    if batch.is_everything {
        writing.delete_table(RETAINED)?;
        writing.delete_table(WILLS)?;
    }
    {
        writing.open_table(ABOUT)?.insert("state", state)?;
        let mut retained = writing.open_table(RETAINED)?;
        for entry in &batch.retained {
            let message = &entry.0;
            if message.payload.is_empty() {
                retained.remove(message.topic.as_str())?;
            } else {
                retained.insert(message.topic.as_str(), &message.encode()[..])?;
            }
        }
        let mut wills = writing.open_table(WILLS)?;
        for (client_id, will) in &batch.wills {
            match will {
                Some(will) => wills.insert(&**client_id, &will.encode()[..])?,
                None => wills.remove(&**client_id)?,
            };
        }
    }
    Ok(writing.commit()?)
}

/// The format of what is in it. It changes whenever an older broker would misread what a newer one writes.
pub(super) const FORMAT: &str = "1";

pub(super) const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
/// Topic to message.
const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
/// Client id to message.
pub(super) const WILLS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("wills");
