//! Mistakes that the model can be told to make, one at a time. A model test is worth what it catches: each of these
//! must be found within a bounded number of seeds.

/// A mistake in the plumbing around the domain's pure functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The offset is committed first and the effect afterwards: a crash in between loses the record.
    OffsetBeforeEffect,
    /// The effect is committed first and the offset afterwards: a crash in between handles the record again.
    OffsetAfterEffect,
    /// A commit saves the state only; its event lives in the relay's memory until it is published.
    EventOutsideTheCommit,
    /// A second `OrderPlaced` of an order is decided again.
    PlacedNotDeduplicated,
    /// A second `OrderCancelled` of an order returns the stock again.
    CancelledNotDeduplicated,
    /// Lines are taken one by one and kept when a later one is short.
    PartialReservation,
    /// A verdict moves an order that the customer has cancelled meanwhile.
    VerdictOnCancelledOrder,
    /// The offset is written without comparing it with the one that the consumer started from.
    UnconditionalOffsetMove,
    /// A consumer that lost the condition goes on from the offset it knows.
    LostConditionNotReloaded,
    /// A consumer starts from the log's copy of the group's offset instead of the stored truth.
    StartsFromTheLogsCopy,
    /// The relay forgets pending events before the log has them.
    RelayClearsBeforeAppend,
    /// The relay forgets whatever is pending when it is done.
    RelayClearsEverythingPending,
    /// The relay forgets everything pending of the aggregates that it published.
    RelayClearsWholeAggregates,
    /// Pending events are published by the process that committed them or never.
    SweepMissing,
    /// Two orders with one key in one batch are both inserted.
    KeyNotCheckedInsideTheBatch,
    /// The idempotency key is not looked at.
    KeyIgnored,
    /// A repeated request is answered with the stored order without comparing the inputs.
    KeyReuseNotNoticed,
    /// The client hears of its order before the commit.
    AcknowledgedBeforeCommit,
    /// After a commit of unknown outcome the client hears of success without a look into the store.
    UnknownOutcomeTakenForSuccess,
    /// A cancellation that comes before its placement leaves no trace, so that the placement takes stock.
    LatePlacementReserves,
    /// A cancellation returns the event's lines instead of what the stored decision reserved.
    ReleaseWithoutStoredDecision,
    /// Stock is read when the batch is fetched and written when it is committed.
    StockReadOutsideTheTransaction,
    /// An order is read, moved on in memory and written back in a second commit.
    OrderReadOutsideTheTransaction,
    /// A repeated stock adjustment is applied again.
    AdjustmentNotDeduplicated,
}

impl Bug {
    pub const ALL: [Self; 24] = [
        Self::OffsetBeforeEffect,
        Self::OffsetAfterEffect,
        Self::EventOutsideTheCommit,
        Self::PlacedNotDeduplicated,
        Self::CancelledNotDeduplicated,
        Self::PartialReservation,
        Self::VerdictOnCancelledOrder,
        Self::UnconditionalOffsetMove,
        Self::LostConditionNotReloaded,
        Self::StartsFromTheLogsCopy,
        Self::RelayClearsBeforeAppend,
        Self::RelayClearsEverythingPending,
        Self::RelayClearsWholeAggregates,
        Self::SweepMissing,
        Self::KeyNotCheckedInsideTheBatch,
        Self::KeyIgnored,
        Self::KeyReuseNotNoticed,
        Self::AcknowledgedBeforeCommit,
        Self::UnknownOutcomeTakenForSuccess,
        Self::LatePlacementReserves,
        Self::ReleaseWithoutStoredDecision,
        Self::StockReadOutsideTheTransaction,
        Self::OrderReadOutsideTheTransaction,
        Self::AdjustmentNotDeduplicated,
    ];

    /// The bug of this name, as `SOUK_MODEL_BUG` gives it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}
