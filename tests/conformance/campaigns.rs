//! The campaigns' port of the products store.

use souk::domain::campaigns::{Audience, Campaign, LaunchKey, Pitch, Step};
use souk::domain::events::{CampaignRecipient, PendingEvent};
use souk::domain::ids::UserId;
use souk::domain::page::PageRequest;
use souk::store::StoreError;
use souk::store::campaigns::{AdvanceCampaign, CampaignStore, LaunchCampaign};
use souk::store::consumption::Consumed;

use crate::harness::{Under, at, id, step};

type Campaigns = Under<dyn CampaignStore>;

conformance!(campaigns:
    a_campaign_is_kept_as_it_was_launched_with_its_event,
    a_key_launches_one_campaign,
    a_chunk_and_the_cursor_are_one_commit,
    a_step_from_an_old_place_writes_nothing,
    of_two_who_write_the_same_chunk_one_does,
    a_finished_campaign_is_none_to_go_on_with,
    lists_are_newest_first,
    events_launch_with_their_offset_and_once,
    a_schedule_begins_when_it_is_first_seen,
    a_slot_is_fired_once_and_never_after_a_later_one,
);

fn campaign(key: &str, launched: i64) -> (Campaign, PendingEvent) {
    let audience = Audience::BuyersOf("Lighting".into());
    let pitch = Pitch { subject: "Lämps \"now\"".into(), message: "Half price.".into(), audience };
    Campaign::launch(id(), &LaunchKey::Staff(key.into()), pitch, at(launched))
}

async fn launch(campaigns: &Campaigns, key: &str, launched: i64) -> Campaign {
    let (campaign, event) = campaign(key, launched);
    let done = campaigns.port.launch_campaign(campaign.clone(), event).await.unwrap();
    assert_eq!(done, LaunchCampaign::Launched);
    campaign
}

fn part(from: Option<UserId>, users: &[UserId], is_last: bool) -> Step {
    let recipients = users.iter().map(|user| CampaignRecipient { user_id: *user, products: vec!["Lamp".into()] });
    Step { from, to: users.last().copied(), recipients: recipients.collect(), is_last }
}

async fn stored(campaigns: &Campaigns, campaign: &Campaign) -> Campaign {
    campaigns.port.campaigns(&[campaign.id]).await.unwrap().pop().unwrap()
}

async fn a_campaign_is_kept_as_it_was_launched_with_its_event(campaigns: Campaigns) {
    let (campaign, event) = campaign("k", 5);
    campaigns.port.launch_campaign(campaign.clone(), event.clone()).await.unwrap();
    assert_eq!(campaigns.port.campaigns(&[campaign.id, id()]).await.unwrap(), std::slice::from_ref(&campaign));
    assert_eq!(campaigns.pending().await, [event]);
    assert_eq!(campaigns.port.unfinished_campaign().await.unwrap(), Some(campaign));
}

async fn a_key_launches_one_campaign(campaigns: Campaigns) {
    let first = launch(&campaigns, "k", 5).await;
    let (again, event) = campaign("k", 6);
    let existing = campaigns.port.launch_campaign(again, event).await.unwrap();
    assert_eq!(existing, LaunchCampaign::Existing(Box::new(first)));
    assert_eq!(campaigns.pending().await.len(), 1);
    assert_eq!(campaigns.port.list_campaigns(&PageRequest::first(5)).await.unwrap().total, 1);
}

async fn a_chunk_and_the_cursor_are_one_commit(campaigns: Campaigns) {
    let mut expected = launch(&campaigns, "k", 5).await;
    let users: [UserId; 2] = [id(), id()];
    let next = part(None, &users, false);
    let chunk = expected.advance(next.clone(), at(7)).unwrap().unwrap();
    let advanced = campaigns.port.advance_campaign(expected.id, next, at(7)).await.unwrap();
    assert_eq!(advanced, AdvanceCampaign::Advanced(Box::new(expected.clone())));
    assert_eq!(stored(&campaigns, &expected).await, expected);
    assert_eq!(campaigns.pending().await.last(), Some(&chunk));
    // A part without anybody of the audience moves the cursor only.
    let to: UserId = id();
    let empty = Step { to: Some(to), ..part(Some(users[1]), &[], false) };
    campaigns.port.advance_campaign(expected.id, empty, at(8)).await.unwrap();
    let now = stored(&campaigns, &expected).await;
    assert_eq!((now.cursor, now.chunks, now.audience_size), (Some(to), 1, 2));
    assert_eq!(campaigns.pending().await.len(), 2);
}

async fn a_step_from_an_old_place_writes_nothing(campaigns: Campaigns) {
    let campaign = launch(&campaigns, "k", 5).await;
    let users: [UserId; 2] = [id(), id()];
    campaigns.port.advance_campaign(campaign.id, part(None, &users, false), at(7)).await.unwrap();
    let before = (stored(&campaigns, &campaign).await, campaigns.pending().await);
    for from in [None, Some(users[0]), Some(id())] {
        let lost = campaigns.port.advance_campaign(campaign.id, part(from, &[id()], true), at(8)).await.unwrap();
        assert_eq!(lost, AdvanceCampaign::Lost);
    }
    let unknown = campaigns.port.advance_campaign(id(), part(None, &users, true), at(8)).await.unwrap();
    assert_eq!(unknown, AdvanceCampaign::Lost);
    assert_eq!((stored(&campaigns, &campaign).await, campaigns.pending().await), before);
}

async fn of_two_who_write_the_same_chunk_one_does(campaigns: Campaigns) {
    let campaign = launch(&campaigns, "k", 5).await;
    let users: [UserId; 2] = [id(), id()];
    let write = || campaigns.port.advance_campaign(campaign.id, part(None, &users, false), at(7));
    let (one, other) = tokio::join!(write(), write());
    let lost = [one.unwrap(), other.unwrap()].into_iter().filter(|done| *done == AdvanceCampaign::Lost).count();
    assert_eq!((lost, campaigns.pending().await.len()), (1, 2));
}

async fn a_finished_campaign_is_none_to_go_on_with(campaigns: Campaigns) {
    let first = launch(&campaigns, "a", 5).await;
    let second = launch(&campaigns, "b", 6).await;
    let next = async || campaigns.port.unfinished_campaign().await.unwrap().map(|campaign| campaign.id);
    assert_eq!(next().await, Some(first.id), "the oldest first");
    campaigns.port.advance_campaign(first.id, part(None, &[id()], true), at(7)).await.unwrap();
    assert_eq!(next().await, Some(second.id));
    campaigns.port.advance_campaign(second.id, part(None, &[], true), at(8)).await.unwrap();
    assert_eq!(next().await, None);
    assert_eq!(stored(&campaigns, &second).await.finished_at, Some(at(8)));
}

async fn lists_are_newest_first(campaigns: Campaigns) {
    let mut launched = Vec::new();
    for n in 0..3 {
        launched.insert(0, launch(&campaigns, &n.to_string(), n).await.id);
    }
    let mut listed = Vec::new();
    let mut request = PageRequest::first(2);
    loop {
        let page = campaigns.port.list_campaigns(&request).await.unwrap();
        assert_eq!(page.total, 3);
        request.after = page.entries.last().map(|(cursor, _)| cursor.clone());
        listed.extend(page.entries.into_iter().map(|(_, campaign)| campaign.id));
        if !page.has_next {
            break;
        }
    }
    assert_eq!(listed, launched);
    let broken = PageRequest { first: 2, after: Some("no cursor".into()) };
    assert!(matches!(campaigns.port.list_campaigns(&broken).await, Err(StoreError::InvalidCursor)));
}

async fn events_launch_with_their_offset_and_once(campaigns: Campaigns) {
    let batch = || vec![campaign("a", 5), campaign("b", 5), campaign("a", 6)];
    let lost = campaigns.port.launch_campaigns(batch(), step("campaigns", 4, 5)).await.unwrap();
    assert_eq!((lost, campaigns.pending().await.len()), (Consumed::Lost, 0));
    for (from, to) in [(0, 3), (3, 6)] {
        let done = campaigns.port.launch_campaigns(batch(), step("campaigns", from, to)).await.unwrap();
        assert_eq!(done, Consumed::Done(()));
    }
    assert_eq!(campaigns.offset("campaigns").await, Some(6));
    assert_eq!(campaigns.pending().await.len(), 2, "each key once");
}

async fn a_schedule_begins_when_it_is_first_seen(campaigns: Campaigns) {
    assert_eq!(campaigns.port.see_schedule("weekly", at(50)).await.unwrap(), at(50));
    assert_eq!(campaigns.port.see_schedule("weekly", at(90)).await.unwrap(), at(50));
    assert_eq!(campaigns.port.see_schedule("daily", at(90)).await.unwrap(), at(90));
}

async fn a_slot_is_fired_once_and_never_after_a_later_one(campaigns: Campaigns) {
    campaigns.port.see_schedule("weekly", at(50)).await.unwrap();
    let fire = async |slot: i64| {
        let key = LaunchKey::Slot { schedule: "weekly".into(), at: at(slot) };
        let pitch = campaign("any", 0).0.pitch;
        let (campaign, event) = Campaign::launch(id(), &key, pitch, at(slot));
        campaigns.port.fire_schedule("weekly", at(slot), campaign, event).await.unwrap()
    };
    assert!(!fire(50).await, "from before it was seen");
    let (one, other) = tokio::join!(fire(60), fire(60));
    assert!(one != other, "exactly one of two fires");
    assert!(fire(70).await);
    assert!(!fire(60).await && !fire(65).await && !fire(70).await);
    assert_eq!(campaigns.pending().await.len(), 2);
    assert_eq!(campaigns.port.see_schedule("weekly", at(90)).await.unwrap(), at(70));
}
