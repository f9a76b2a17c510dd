//! The operations store.

use souk::domain::events::{PendingEvent, event_type};
use souk::domain::page::PageRequest;
use souk::store::StoreError;
use souk::store::consumption::Consumed;
use souk::store::operations::{DeadLetter, OperationsStore, SettleDeadLetter};

use crate::harness::{Under, at, event, record, step};

type Operations = Under<dyn OperationsStore>;

conformance!(operations:
    letters_are_kept_as_they_came,
    the_same_letter_is_kept_once,
    letters_and_offset_are_written_together_or_not_at_all,
    lists_are_newest_first_and_can_leave_out_what_is_settled,
    a_replay_saves_its_event_in_the_same_commit_and_once,
    a_discarded_letter_is_not_replayed,
    who_settled_a_letter_and_when_stays_with_it,
    the_news_of_a_letter_is_saved_with_it_and_once,
    letters_are_followed_in_the_order_in_which_they_came,
    an_unknown_letter_is_told,
);

fn letter(offset: i64, source: &str) -> DeadLetter {
    DeadLetter {
        id: format!("{source}/order-events/0/{offset}/0"),
        source: source.into(),
        reason: "cannot be \"decoded\"".into(),
        attempts: 5,
        record: record(0, offset),
        round: 0,
        failed_at: at(offset),
        replayed_at: None,
        replayed_by: None,
        discarded_at: None,
        discarded_by: None,
    }
}

async fn add(operations: &Operations, letters: &[DeadLetter]) {
    let from = operations.offset("dead-letters").await.unwrap_or(0);
    let done =
        operations.port.add_dead_letters(letters.to_vec(), step("dead-letters", from, from + 1), at(7)).await.unwrap();
    assert_eq!(done, Consumed::Done(()));
}

impl Operations {
    /// What is pending besides the news of letters that were kept.
    async fn news(&self) -> Vec<PendingEvent> {
        let mut pending = self.pending().await;
        pending.retain(|event| event.event_type != event_type::DEAD_LETTER_KEPT);
        pending
    }
}

async fn letters_are_kept_as_they_came(operations: Operations) {
    let letters = [letter(1, "inventory"), letter(2, "orders")];
    add(&operations, &letters).await;
    let ids: Vec<String> = letters.iter().map(|letter| letter.id.clone()).chain(["unknown".into()]).collect();
    assert_eq!(operations.port.dead_letters(&ids).await.unwrap(), letters);
}

async fn the_same_letter_is_kept_once(operations: Operations) {
    let first = letter(1, "inventory");
    add(&operations, std::slice::from_ref(&first)).await;
    let settled = operations.port.discard_dead_letter(&first.id, "ada", at(9)).await.unwrap();
    add(&operations, &[DeadLetter { reason: "another".into(), ..first.clone() }]).await;
    let kept = operations.port.dead_letters(std::slice::from_ref(&first.id)).await.unwrap();
    assert_eq!(settled, SettleDeadLetter::Settled(Box::new(kept[0].clone())));
    assert_eq!((kept[0].reason.as_str(), kept[0].discarded_at), (first.reason.as_str(), Some(at(9))));
}

async fn letters_and_offset_are_written_together_or_not_at_all(operations: Operations) {
    let lost =
        operations.port.add_dead_letters(vec![letter(1, "orders")], step("dead-letters", 4, 5), at(7)).await.unwrap();
    assert_eq!(lost, Consumed::Lost);
    assert_eq!(operations.port.list_dead_letters(None, false, &PageRequest::first(5)).await.unwrap().total, 0);
    assert_eq!(operations.offset("dead-letters").await, None);
}

async fn lists_are_newest_first_and_can_leave_out_what_is_settled(operations: Operations) {
    let letters: Vec<DeadLetter> = (0..4).map(|n| letter(n, if n % 2 == 0 { "inventory" } else { "orders" })).collect();
    add(&operations, &letters).await;
    operations.port.discard_dead_letter(&letters[0].id, "ada", at(9)).await.unwrap();
    operations.port.replay_dead_letter(&letters[3].id, event("replay", 1, at(9)), "ada", at(9)).await.unwrap();
    for (source, open_only, expected) in [
        (None, false, vec![3, 2, 1, 0]),
        (None, true, vec![2, 1]),
        (Some("inventory"), false, vec![2, 0]),
        (Some("inventory"), true, vec![2]),
        (Some("nobody"), false, vec![]),
    ] {
        let mut listed = Vec::new();
        let mut request = PageRequest::first(1);
        loop {
            let page = operations.port.list_dead_letters(source, open_only, &request).await.unwrap();
            assert_eq!(page.total, expected.len() as u64);
            let Some((cursor, letter)) = page.entries.first() else { break };
            listed.push(letter.record.offset);
            request.after = Some(cursor.clone());
        }
        assert_eq!(listed, expected, "{source:?} {open_only}");
    }
}

async fn a_replay_saves_its_event_in_the_same_commit_and_once(operations: Operations) {
    let letter = letter(1, "inventory");
    add(&operations, std::slice::from_ref(&letter)).await;
    let event = event("replay", 1, at(9));
    let settled = operations.port.replay_dead_letter(&letter.id, event.clone(), "ada", at(9)).await.unwrap();
    let replayed = DeadLetter { replayed_at: Some(at(9)), replayed_by: Some("ada".into()), ..letter.clone() };
    assert_eq!(settled, SettleDeadLetter::Settled(Box::new(replayed.clone())));
    assert_eq!(operations.news().await, [event]);
    let again = operations
        .port
        .replay_dead_letter(&letter.id, crate::harness::event("replay", 2, at(10)), "eve", at(10))
        .await
        .unwrap();
    assert_eq!(again, SettleDeadLetter::AlreadySettled(Box::new(replayed)));
    assert_eq!(operations.news().await.len(), 1);
}

async fn a_discarded_letter_is_not_replayed(operations: Operations) {
    let letter = letter(1, "inventory");
    add(&operations, std::slice::from_ref(&letter)).await;
    operations.port.discard_dead_letter(&letter.id, "ada", at(9)).await.unwrap();
    let settled =
        operations.port.replay_dead_letter(&letter.id, event("replay", 1, at(10)), "eve", at(10)).await.unwrap();
    assert!(matches!(settled, SettleDeadLetter::AlreadySettled(_)));
    assert_eq!(operations.news().await, []);
    let again = operations.port.discard_dead_letter(&letter.id, "eve", at(11)).await.unwrap();
    let SettleDeadLetter::AlreadySettled(letter) = again else { panic!("{again:?}") };
    assert_eq!(letter.discarded_at, Some(at(9)));
}

async fn who_settled_a_letter_and_when_stays_with_it(operations: Operations) {
    let letter = letter(1, "inventory");
    add(&operations, std::slice::from_ref(&letter)).await;
    operations.port.replay_dead_letter(&letter.id, event("replay", 1, at(9)), "ada", at(9)).await.unwrap();
    let discarded = operations.port.discard_dead_letter(&letter.id, "eve", at(11)).await.unwrap();
    let expected = DeadLetter {
        replayed_at: Some(at(9)),
        replayed_by: Some("ada".into()),
        discarded_at: Some(at(11)),
        discarded_by: Some("eve".into()),
        ..letter.clone()
    };
    assert_eq!(discarded, SettleDeadLetter::Settled(Box::new(expected.clone())), "also after a replay");
    assert_eq!(
        operations.port.dead_letters(std::slice::from_ref(&letter.id)).await.unwrap(),
        std::slice::from_ref(&expected)
    );
    let listed = operations.port.list_dead_letters(None, false, &PageRequest::first(5)).await.unwrap();
    assert_eq!(listed.entries[0].1, expected);
}

async fn the_news_of_a_letter_is_saved_with_it_and_once(operations: Operations) {
    let letters = [letter(1, "inventory"), letter(2, "orders")];
    add(&operations, &letters).await;
    add(&operations, &letters).await;
    let expected: Vec<_> = letters.iter().map(|letter| letter.kept_event(at(7))).collect();
    assert_eq!(operations.pending().await, expected);
}

async fn letters_are_followed_in_the_order_in_which_they_came(operations: Operations) {
    let start = operations.port.latest_dead_letter().await.unwrap();
    assert_eq!(operations.port.dead_letters_after(&start, 9).await.unwrap(), []);
    let letters: Vec<DeadLetter> = [5, 3, 4].map(|n| letter(n, "inventory")).into();
    add(&operations, &letters[..1]).await;
    let later = operations.port.latest_dead_letter().await.unwrap();
    add(&operations, &letters).await;
    let mut followed = Vec::new();
    let mut cursor = start;
    loop {
        let entries = operations.port.dead_letters_after(&cursor, 2).await.unwrap();
        let Some(last) = entries.last() else { break };
        cursor = last.cursor.clone();
        followed.extend(entries.into_iter().map(|entry| entry.letter));
    }
    assert_eq!(followed, letters, "each once");
    assert_eq!(cursor, operations.port.latest_dead_letter().await.unwrap());
    let rest = operations.port.dead_letters_after(&later, 9).await.unwrap();
    assert_eq!(rest.into_iter().map(|entry| entry.letter).collect::<Vec<_>>(), letters[1..]);
    let broken = operations.port.dead_letters_after("no cursor", 9).await;
    assert!(matches!(broken, Err(StoreError::InvalidCursor)));
}

async fn an_unknown_letter_is_told(operations: Operations) {
    let replay = operations.port.replay_dead_letter("unknown", event("replay", 1, at(9)), "ada", at(9)).await.unwrap();
    assert_eq!(replay, SettleDeadLetter::NotFound);
    assert_eq!(operations.port.discard_dead_letter("unknown", "ada", at(9)).await.unwrap(), SettleDeadLetter::NotFound);
    assert_eq!(operations.news().await, []);
}
