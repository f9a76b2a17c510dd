//! Many updates in one command, which the driver has no method for on servers before 8.0.

use mongodb::bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, doc, serialize_to_raw_document_buf};
use mongodb::{ClientSession, Database};
use serde::Deserialize;

use super::connections::majority;
use super::failure::{Failure, broken, index_in, is_duplicate};

/// The most bytes of updates in one command; the server takes 16 MiB.
const MAX_COMMAND_BYTES: usize = 12 * 1024 * 1024;
/// The most updates in one command that the server takes.
const MAX_UPDATES: usize = 100_000;

/// One update of a command: changes, or replaces, the first document that a filter matches.
pub(super) struct Update(Document);

impl Update {
    /// `change` is a document of update operators, an array of them (a pipeline), or a whole document that replaces.
    pub(super) fn one(filter: Document, change: impl Into<Bson>) -> Self {
        Self(doc! { "q": filter, "u": change.into() })
    }

    /// Changes every document that the filter matches.
    pub(super) fn all(filter: Document, change: impl Into<Bson>) -> Self {
        Self(doc! { "q": filter, "u": change.into(), "multi": true })
    }

    /// Inserts what the filter and the change make together when nothing matches.
    pub(super) fn or_insert(mut self) -> Self {
        self.0.insert("upsert", true);
        self
    }
}

/// What the updates of a command did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Updated {
    /// Documents that matched, changed or not, and those that were inserted.
    pub matched: u64,
    pub modified: u64,
    /// The places in the list of the updates that would have taken a key of a unique index twice.
    pub duplicates: Vec<Duplicate>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub place: usize,
    pub index: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    n: i64,
    #[serde(default)]
    n_modified: i64,
    #[serde(default)]
    write_errors: Vec<WriteError>,
    write_concern_error: Option<WriteConcernError>,
}

#[derive(Deserialize)]
struct WriteError {
    index: usize,
    code: i32,
    errmsg: String,
}

#[derive(Deserialize)]
struct WriteConcernError {
    errmsg: String,
}

/// Does the updates, in the session's transaction when there is one. `ordered`: in the order of the list, and after one
/// that fails no further one. Outside a transaction nothing is repeated after a lost connection: the caller's updates can
/// be done twice.
pub(super) async fn update(
    database: &Database,
    mut session: Option<&mut ClientSession>,
    collection: &str,
    updates: Vec<Update>,
    ordered: bool,
) -> Result<Updated, Failure> {
    let mut done = Updated::default();
    let mut updates = updates.into_iter().peekable();
    let mut place = 0;
    while updates.peek().is_some() {
        let (mut list, mut bytes, first) = (RawArrayBuf::new(), 0, place);
        for update in updates.by_ref() {
            let update = serialize_to_raw_document_buf(&update.0)?;
            bytes += update.as_bytes().len();
            list.push(update);
            place += 1;
            if bytes > MAX_COMMAND_BYTES || place - first == MAX_UPDATES {
                break;
            }
        }
        let mut command = RawDocumentBuf::new();
        command.append(mongodb::bson::cstr!("update"), collection);
        command.append(mongodb::bson::cstr!("ordered"), ordered);
        command.append(mongodb::bson::cstr!("updates"), list);
        let reply = match session.as_deref_mut() {
            Some(session) => database.run_raw_command(command).session(session).await?,
            None => {
                command.append(mongodb::bson::cstr!("writeConcern"), serialize_to_raw_document_buf(&majority())?);
                database.run_raw_command(command).await?
            }
        };
        done.add(mongodb::bson::deserialize_from_document(reply)?, first)?;
        if ordered && !done.duplicates.is_empty() {
            break;
        }
    }
    Ok(done)
}

impl Updated {
    fn add(&mut self, reply: Reply, first: usize) -> Result<(), Failure> {
        if let Some(error) = reply.write_concern_error {
            return Err(Failure::Unsettled(error.errmsg));
        }
        self.matched += reply.n.unsigned_abs();
        self.modified += reply.n_modified.unsigned_abs();
        for error in reply.write_errors {
            if !is_duplicate(error.code) {
                return Err(broken(format!("mongodb refused an update (code {})", error.code)));
            }
            let index = index_in(&error.errmsg).to_owned();
            self.duplicates.push(Duplicate { place: first + error.index, index });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(document: Document) -> Reply {
        mongodb::bson::deserialize_from_document(document).unwrap()
    }

    #[test]
    fn taken_keys_are_told_by_their_place_in_the_whole_list() {
        let mut updated = Updated::default();
        updated.add(reply(doc! { "n": 2, "nModified": 1, "ok": 1.0 }), 0).unwrap();
        let message =
            "E11000 duplicate key error collection: souk_orders.orders index: orders_by_key dup key: { k: 1 }";
        let errors = vec![doc! { "index": 1, "code": 11_000, "errmsg": message }];
        updated.add(reply(doc! { "n": 1, "nModified": 1, "writeErrors": errors }), 2).unwrap();
        assert_eq!((updated.matched, updated.modified), (3, 2));
        assert_eq!(updated.duplicates, [Duplicate { place: 3, index: "orders_by_key".into() }]);
    }

    #[test]
    fn another_error_fails_the_command_and_tells_nothing_of_the_documents() {
        let errors = vec![doc! { "index": 0, "code": 121, "errmsg": "ada@example.com fails validation" }];
        let refused = Updated::default().add(reply(doc! { "n": 0, "writeErrors": errors }), 0);
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("121") && !told.contains("ada"), "{told}");
    }

    #[test]
    fn a_write_without_its_majority_is_of_unknown_outcome() {
        let concern = doc! { "code": 64, "errmsg": "waiting for replication timed out" };
        let unsettled = Updated::default().add(reply(doc! { "n": 1, "writeConcernError": concern }), 0);
        assert!(unsettled.unwrap_err().is_passing());
    }
}
