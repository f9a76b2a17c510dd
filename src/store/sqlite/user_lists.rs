//! Users in lists, in the users file: whom a search finds, page by page, and who wants mails of a sort.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::cursor;
use super::failure::Failure;
use super::users::{COLUMNS, columns, decode};
use crate::domain::ids::UserId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::users::{Subscription, User};
use crate::store::users::MAX_SEARCH_WORDS;

/// Users with a preference on, by id; the empty id comes before every other.
macro_rules! audience_sql {
    ($preference:literal) => {
        concat!(
            "SELECT id FROM users WHERE ",
            $preference,
            " = 1 AND erased_at IS NULL AND id > ?1 ORDER BY id LIMIT ?2"
        )
    };
}

pub(super) fn list(connection: &Connection, mut words: Vec<String>, page: &PageRequest) -> Result<Page<User>, Failure> {
    words.sort_unstable();
    words.dedup();
    let mut conditions = String::from("u.erased_at IS NULL");
    if words.len() > MAX_SEARCH_WORDS {
        words.clear();
        conditions = String::from("FALSE");
    }
    let mut values = Vec::new();
    for word in words {
        conditions.push_str(" AND u.position IN (SELECT position FROM user_words WHERE word >= ? AND word < ?)");
        values.push(Value::Text(word.clone()));
        values.push(Value::Text(past_prefix(word)));
    }
    let counted = format!("SELECT COUNT(*) FROM users u WHERE {conditions}");
    let total =
        connection.prepare_cached(&counted)?.query_row(params_from_iter(&values), |row| row.get::<_, i64>(0))?;
    if let Some(after) = &page.after {
        conditions.push_str(" AND u.position < ?");
        values.push(Value::Integer(cursor::decode(after)?));
    }
    values.push(Value::Integer(i64::from(page.first) + 1));
    let columns = columns!();
    let sql = format!("SELECT {columns}, u.position FROM users u WHERE {conditions} ORDER BY u.position DESC LIMIT ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&values))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let position: i64 = row.get(COLUMNS)?;
        entries.push((cursor::encode(&position), decode(row)?));
    }
    Ok(cursor::page(entries, page, total))
}

/// A text above every word that begins with `word`: no word holds this character.
pub(super) fn past_prefix(mut word: String) -> String {
    word.push(char::MAX);
    word
}

pub(super) fn audience(
    connection: &Connection,
    subscription: Subscription,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserId>, Failure> {
    let sql = match subscription {
        Subscription::OrderUpdates => audience_sql!("order_updates"),
        Subscription::Promotions => audience_sql!("promotions"),
        Subscription::Recommendations => audience_sql!("recommendations"),
    };
    let after: &[u8] = after.as_ref().map_or(&[], |id| id.as_bytes());
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((after, limit))?;
    let mut users = Vec::new();
    while let Some(row) = rows.next()? {
        users.push(UserId::from_bytes(row.get(0)?));
    }
    Ok(users)
}
