//! What a store hands on to the `database` that it is made of, the same over every adapter: a database has these verbs by
//! the same names, whatever it is.

/// A group's offsets and parked events, and events without an effect.
macro_rules! consumption_over_database {
    ($store:ident) => {
        #[async_trait::async_trait]
        impl crate::store::consumption::ConsumptionStore for $store {
            async fn offsets(
                &self,
                group: &str,
            ) -> Result<Vec<crate::store::consumption::StoredOffset>, crate::store::StoreError> {
                self.database.offsets(group).await
            }

            async fn parked(
                &self,
                group: &str,
            ) -> Result<Vec<crate::store::consumption::ParkedEvent>, crate::store::StoreError> {
                self.database.parked(group).await
            }

            async fn consume(
                &self,
                consumption: crate::store::consumption::Consumption,
            ) -> Result<crate::store::consumption::Consumed<()>, crate::store::StoreError> {
                self.database.consume(consumption).await
            }
        }
    };
}
pub(super) use consumption_over_database;

/// The outbox of a store whose events all wait in `pending_events`.
macro_rules! outbox_over_database {
    ($store:ident) => {
        #[async_trait::async_trait]
        impl crate::store::outbox::Outbox for $store {
            fn domain(&self) -> &'static str {
                self.database.domain()
            }

            fn committed(&self) -> tokio::sync::mpsc::Receiver<Vec<crate::domain::events::PendingEvent>> {
                self.database.committed()
            }

            fn foreign_writes(&self) -> tokio::sync::watch::Receiver<u64> {
                self.database.foreign_writes()
            }

            async fn pending(
                &self,
                before: crate::domain::time::Timestamp,
                limit: u32,
            ) -> Result<Vec<crate::domain::events::PendingEvent>, crate::store::StoreError> {
                self.database.pending(before, limit).await
            }

            async fn pending_of(
                &self,
                aggregates: &[String],
            ) -> Result<Vec<crate::domain::events::PendingEvent>, crate::store::StoreError> {
                self.database.pending_of(aggregates).await
            }

            async fn backlog(&self) -> Result<crate::store::outbox::Backlog, crate::store::StoreError> {
                self.database.backlog().await
            }

            async fn clear(
                &self,
                published: Vec<crate::store::outbox::PendingEventId>,
            ) -> Result<(), crate::store::StoreError> {
                self.database.clear(published).await
            }

            async fn check(&self) -> Result<(), crate::store::StoreError> {
                self.database.check().await
            }
        }
    };
}
pub(super) use outbox_over_database;
