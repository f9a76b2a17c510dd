//! The recommendations file: counts and history by generation ([`super::co_purchases`], read by [`super::evidence`]), and
//! by user what outlives a rebuild: ratings, and what was last announced.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::database::{Database, Write};
use super::failure::Failure;
use super::migrations::Migration;
use super::{co_purchases, consumption, evidence, outbox};
use crate::domain::ids::{OrderId, ProductId, UserId};
use crate::domain::recommendations::{Evidence, HistoryChange, Limits, Purchase, changed_event};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::recommendations::{
    Announcement, DueUser, ExportedPurchase, ExportedRating, Generation, RebuildStep, RecommendationStore, UserHistory,
};

const MIGRATIONS: &[Migration] = &[Migration {
    name: "recommendations",
    sql: &[
        outbox::SCHEMA,
        consumption::SCHEMA,
        "
        CREATE TABLE generations (
            generation INTEGER PRIMARY KEY,
            -- One generation is live; another one may be filling.
            live INTEGER NOT NULL,
            orders INTEGER NOT NULL,
            lines INTEGER NOT NULL
        ) STRICT;
        INSERT INTO generations VALUES (1, 1, 0, 0);
        -- Generations that are no longer in use and still take room.
        CREATE TABLE abandoned (generation INTEGER PRIMARY KEY) STRICT;
        CREATE TABLE items (
            generation INTEGER NOT NULL,
            product_id BLOB NOT NULL,
            category TEXT NOT NULL,
            orders INTEGER NOT NULL,
            before INTEGER NOT NULL,
            after INTEGER NOT NULL,
            -- Rows of `pairs`.
            neighbours INTEGER NOT NULL,
            -- Whether some were forgotten.
            trimmed INTEGER NOT NULL,
            PRIMARY KEY (generation, product_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX items_by_orders ON items (generation, orders);
        CREATE INDEX items_by_category ON items (generation, category, orders);
        -- Each pair twice, so that the neighbours of an item lie together.
        CREATE TABLE pairs (
            generation INTEGER NOT NULL,
            product_id BLOB NOT NULL,
            other_id BLOB NOT NULL,
            together INTEGER NOT NULL,
            later INTEGER NOT NULL,
            PRIMARY KEY (generation, product_id, other_id)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE counted_orders (
            generation INTEGER NOT NULL,
            order_id BLOB NOT NULL,
            -- 0: cancelled.
            counted INTEGER NOT NULL,
            PRIMARY KEY (generation, order_id)
        ) STRICT, WITHOUT ROWID;
        -- Ids of orders grow with time: a user's newest are the last.
        CREATE TABLE purchases (
            generation INTEGER NOT NULL,
            user_id BLOB NOT NULL,
            order_id BLOB NOT NULL,
            place INTEGER NOT NULL,
            product_id BLOB NOT NULL,
            category TEXT NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (generation, user_id, order_id, place)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE ratings (
            user_id BLOB NOT NULL,
            product_id BLOB NOT NULL,
            liked INTEGER NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (user_id, product_id)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE readers (
            user_id BLOB PRIMARY KEY,
            changes INTEGER NOT NULL,
            -- Counts those who became due; NULL of who is not.
            due INTEGER,
            -- Of the user's events.
            sequence INTEGER NOT NULL,
            -- JSON: what was last announced.
            announced TEXT,
            deleted INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX readers_due ON readers (due) WHERE due IS NOT NULL;",
    ],
}];

/// Rows that one commit of [`RecommendationStore::remove_abandoned`] removes of a table at most.
const REMOVED_AT_ONCE: u32 = 5_000;

/// Purchase history and counts in their SQLite file.
pub struct SqliteRecommendationStore {
    database: Database,
}

super::store_over_database!(SqliteRecommendationStore, "recommendations", MIGRATIONS);
super::outbox_over_database!(SqliteRecommendationStore);

#[async_trait]
impl RecommendationStore for SqliteRecommendationStore {
    async fn apply(
        &self,
        changes: Vec<HistoryChange>,
        limits: Limits,
        consumption: Consumption,
    ) -> Result<Consumed<()>, StoreError> {
        self.database.consume_with(consumption, move |write| apply(write.sql(), &changes, &limits)).await
    }

    async fn rate(&self, user: UserId, product: ProductId, liked: bool, at: Timestamp) -> Result<(), StoreError> {
        self.database
            .write(move |write| {
                if is_deleted(write.sql(), user)? {
                    return Ok(());
                }
                write
                    .sql()
                    .prepare_cached(
                        "INSERT INTO ratings (user_id, product_id, liked, at) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT DO UPDATE SET liked = excluded.liked, at = excluded.at",
                    )?
                    .execute((user.as_bytes(), product.as_bytes(), liked, at.0))?;
                mark_due(write.sql(), user)
            })
            .await
    }

    async fn evidence(&self, users: &[UserId], limits: Limits) -> Result<Vec<Evidence>, StoreError> {
        let users = users.to_vec();
        self.database
            .read(move |connection| users.into_iter().map(|user| evidence::of(connection, user, &limits)).collect())
            .await
    }

    async fn due_users(&self, limit: u32) -> Result<Vec<DueUser>, StoreError> {
        self.database
            .read(move |connection| {
                let mut query = connection.prepare_cached(
                    "SELECT user_id, changes FROM readers WHERE due IS NOT NULL ORDER BY due LIMIT ?1",
                )?;
                let due = query.query_map([limit], |row| {
                    Ok(DueUser { user_id: UserId::from_bytes(row.get(0)?), changes: row.get(1)? })
                })?;
                Ok(due.collect::<Result<_, _>>()?)
            })
            .await
    }

    async fn announce(&self, announcements: Vec<Announcement>, at: Timestamp) -> Result<(), StoreError> {
        self.database.write(move |write| announcements.into_iter().try_for_each(|one| announce(write, one, at))).await
    }

    async fn buyers_of(&self, category: &str, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let (category, users) = (category.to_owned(), users.to_vec());
        self.database
            .read(move |connection| {
                let generation = live(connection)?;
                let mut query = connection.prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM purchases WHERE generation = ?1 AND user_id = ?2 AND category = ?3)",
                )?;
                let mut buyers = Vec::new();
                for user in users {
                    if query.query_row((generation, user.as_bytes(), &category), |row| row.get(0))? {
                        buyers.push(user);
                    }
                }
                Ok(buyers)
            })
            .await
    }

    async fn favourite_categories(
        &self,
        users: &[UserId],
        limit: u32,
    ) -> Result<Vec<(UserId, Vec<String>)>, StoreError> {
        let users = users.to_vec();
        self.database
            .read(move |connection| {
                let generation = live(connection)?;
                let mut query = connection.prepare_cached(
                    "SELECT category FROM purchases WHERE generation = ?1 AND user_id = ?2
                     GROUP BY category ORDER BY COUNT(*) DESC, category LIMIT ?3",
                )?;
                let mut favourites = Vec::new();
                for user in users {
                    let rows = query.query_map((generation, user.as_bytes(), limit), |row| row.get(0))?;
                    let categories: Vec<String> = rows.collect::<Result<_, _>>()?;
                    if !categories.is_empty() {
                        favourites.push((user, categories));
                    }
                }
                Ok(favourites)
            })
            .await
    }

    async fn history(&self, user: UserId) -> Result<UserHistory, StoreError> {
        self.database.read(move |connection| history(connection, user)).await
    }

    async fn begin_rebuild(&self) -> Result<Generation, StoreError> {
        self.database
            .write(|write| {
                let connection = write.sql();
                connection.execute("INSERT INTO abandoned SELECT generation FROM generations WHERE NOT live", ())?;
                connection.execute("DELETE FROM generations WHERE NOT live", ())?;
                let newest: Generation = connection.query_row(
                    "SELECT MAX(generation) FROM (SELECT generation FROM generations UNION SELECT generation FROM abandoned)",
                    (),
                    |row| row.get(0),
                )?;
                connection.execute("INSERT INTO generations VALUES (?1, 0, 0, 0)", [newest + 1])?;
                Ok(newest + 1)
            })
            .await
    }

    async fn rebuild(
        &self,
        generation: Generation,
        purchases: Vec<Purchase>,
        limits: Limits,
    ) -> Result<RebuildStep, StoreError> {
        self.database
            .write(move |write| {
                if !is_filling(write.sql(), generation)? {
                    return Ok(RebuildStep::Superseded);
                }
                let orders: Vec<_> = purchases.iter().map(|purchase| (purchase, false)).collect();
                co_purchases::count(write.sql(), generation, &orders, &limits)?;
                Ok(RebuildStep::Done)
            })
            .await
    }

    async fn finish_rebuild(&self, generation: Generation) -> Result<RebuildStep, StoreError> {
        self.database
            .write(move |write| {
                let connection = write.sql();
                if !is_filling(connection, generation)? {
                    return Ok(RebuildStep::Superseded);
                }
                connection.execute("INSERT INTO abandoned SELECT generation FROM generations WHERE live", ())?;
                connection.execute("DELETE FROM generations WHERE live", ())?;
                connection.execute("UPDATE generations SET live = 1 WHERE generation = ?1", [generation])?;
                Ok(RebuildStep::Done)
            })
            .await
    }

    async fn remove_abandoned(&self) -> Result<bool, StoreError> {
        self.database.write(|write| remove_abandoned(write.sql())).await
    }
}

fn apply(connection: &Connection, changes: &[HistoryChange], limits: &Limits) -> Result<(), Failure> {
    let generations: Vec<Generation> = connection
        .prepare_cached("SELECT generation FROM generations ORDER BY generation")?
        .query_map((), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    // Orders between two deletions are counted together.
    for part in changes.split_inclusive(|change| matches!(change, HistoryChange::UserDeleted(_))) {
        let mut orders = Vec::with_capacity(part.len());
        for change in part {
            match change {
                HistoryChange::Bought(purchase) => orders.push((purchase, false)),
                HistoryChange::Cancelled(purchase) => orders.push((purchase, true)),
                HistoryChange::UserDeleted(_) => {}
            }
        }
        let mut users: Vec<UserId> = orders.iter().map(|(purchase, _)| purchase.user_id).collect();
        users.sort_unstable();
        users.dedup();
        for generation in &generations {
            co_purchases::count(connection, *generation, &orders, limits)?;
        }
        users.into_iter().try_for_each(|user| mark_due(connection, user))?;
        if let Some(HistoryChange::UserDeleted(user)) = part.last() {
            erase(connection, &generations, *user)?;
        }
    }
    Ok(())
}

/// Forgets a user for good: what comes later of them is not kept either.
fn erase(connection: &Connection, generations: &[Generation], user: UserId) -> Result<(), Failure> {
    for generation in generations {
        connection
            .prepare_cached("DELETE FROM purchases WHERE generation = ?1 AND user_id = ?2")?
            .execute((generation, user.as_bytes()))?;
    }
    connection.prepare_cached("DELETE FROM ratings WHERE user_id = ?1")?.execute([user.as_bytes()])?;
    connection
        .prepare_cached(
            "INSERT INTO readers (user_id, changes, sequence, deleted) VALUES (?1, 1, 0, 1)
             ON CONFLICT DO UPDATE SET changes = changes + 1, due = NULL, announced = NULL, deleted = 1",
        )?
        .execute([user.as_bytes()])?;
    Ok(())
}

fn mark_due(connection: &Connection, user: UserId) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO readers (user_id, changes, due, sequence, deleted)
             VALUES (?1, 1, (SELECT IFNULL(MAX(due), 0) + 1 FROM readers WHERE due IS NOT NULL), 0, 0)
             ON CONFLICT DO UPDATE SET changes = changes + 1, due = IFNULL(due, excluded.due) WHERE NOT deleted",
        )?
        .execute([user.as_bytes()])?;
    Ok(())
}

pub(super) fn is_deleted(connection: &Connection, user: UserId) -> Result<bool, Failure> {
    let mut query = connection.prepare_cached("SELECT deleted FROM readers WHERE user_id = ?1")?;
    Ok(query.query_row([user.as_bytes()], |row| row.get(0)).optional()?.unwrap_or(false))
}

fn announce(write: &mut Write<'_>, announcement: Announcement, at: Timestamp) -> Result<(), Failure> {
    let Announcement { due: DueUser { user_id, changes }, items, scores } = announcement;
    let connection = write.sql();
    let known: Option<(i64, Option<String>)> = connection
        .prepare_cached(
            "UPDATE readers SET due = NULL WHERE user_id = ?1 AND changes = ?2 AND due IS NOT NULL
             RETURNING sequence, announced",
        )?
        .query_row((user_id.as_bytes(), changes), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((sequence, announced)) = known else { return Ok(()) };
    let text = serde_json::to_string(&(&items, scores))?;
    if announced.as_ref() == Some(&text) || (announced.is_none() && items.is_empty()) {
        return Ok(());
    }
    connection.prepare_cached("UPDATE readers SET sequence = ?2, announced = ?3 WHERE user_id = ?1")?.execute((
        user_id.as_bytes(),
        sequence + 1,
        text,
    ))?;
    write.emit(changed_event(user_id, sequence + 1, items, at))
}

fn history(connection: &Connection, user: UserId) -> Result<UserHistory, Failure> {
    let mut query = connection.prepare_cached(
        "SELECT order_id, product_id, category, at FROM purchases WHERE generation = ?1 AND user_id = ?2
         ORDER BY order_id DESC, place",
    )?;
    let purchases = query.query_map((live(connection)?, user.as_bytes()), |row| {
        Ok(ExportedPurchase {
            order_id: OrderId::from_bytes(row.get(0)?),
            product_id: ProductId::from_bytes(row.get(1)?),
            category: row.get(2)?,
            at: Timestamp(row.get(3)?),
        })
    })?;
    let purchases = purchases.collect::<Result<_, _>>()?;
    let mut query = connection
        .prepare_cached("SELECT product_id, liked, at FROM ratings WHERE user_id = ?1 ORDER BY product_id")?;
    let ratings = query.query_map([user.as_bytes()], |row| {
        Ok(ExportedRating {
            product_id: ProductId::from_bytes(row.get(0)?),
            liked: row.get(1)?,
            at: Timestamp(row.get(2)?),
        })
    })?;
    Ok(UserHistory { purchases, ratings: ratings.collect::<Result<_, _>>()? })
}

/// The generation that serves.
pub(super) fn live(connection: &Connection) -> Result<Generation, Failure> {
    let mut query = connection.prepare_cached("SELECT generation FROM generations WHERE live")?;
    Ok(query.query_row((), |row| row.get(0))?)
}

fn is_filling(connection: &Connection, generation: Generation) -> Result<bool, Failure> {
    let mut query = connection.prepare_cached("SELECT NOT live FROM generations WHERE generation = ?1")?;
    Ok(query.query_row([generation], |row| row.get(0)).optional()?.unwrap_or(false))
}

fn remove_abandoned(connection: &Connection) -> Result<bool, Failure> {
    let mut query = connection.prepare_cached("SELECT MIN(generation) FROM abandoned")?;
    let Some(generation) = query.query_row((), |row| row.get::<_, Option<Generation>>(0))? else { return Ok(false) };
    let mut removed = 0;
    for (table, key) in [
        ("pairs", "product_id, other_id"),
        ("purchases", "user_id, order_id, place"),
        ("items", "product_id"),
        ("counted_orders", "order_id"),
    ] {
        let sql = format!(
            "DELETE FROM {table} WHERE generation = ?1
             AND ({key}) IN (SELECT {key} FROM {table} WHERE generation = ?1 LIMIT ?2)"
        );
        removed += connection.prepare_cached(&sql)?.execute((generation, REMOVED_AT_ONCE))?;
    }
    if removed == 0 {
        connection.prepare_cached("DELETE FROM abandoned WHERE generation = ?1")?.execute([generation])?;
    }
    Ok(true)
}
