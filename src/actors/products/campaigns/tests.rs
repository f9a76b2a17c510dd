//! The runner over a store and neighbours of its own: every user once, whatever fails in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::neighbours::Neighbours;
use super::runner::{CampaignTools, USERS_PER_STEP, run};
use crate::actors::errors::DomainError;
use crate::domain::campaign_triggers::TriggerRules;
use crate::domain::campaigns::{Audience, Campaign, LaunchKey, Pitch, Step};
use crate::domain::events::{CampaignChunk, CampaignRecipient, PendingEvent};
use crate::domain::ids::{CampaignId, ProductId, TypedId, UserId};
use crate::domain::money::Money;
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{NewProduct, Product};
use crate::domain::schedules::Schedule;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::campaigns::{AdvanceCampaign, CampaignStore, LaunchCampaign};
use crate::store::consumption::{Consumed, Consumption};
use crate::telemetry::Metrics;

/// Store and neighbours at once.
#[derive(Default)]
struct Shop {
    users: u128,
    campaigns: Mutex<Vec<Campaign>>,
    chunks: Mutex<Vec<CampaignChunk>>,
    schedules: Mutex<BTreeMap<String, Timestamp>>,
    calls: AtomicUsize,
    /// Every so many calls fail, writes after they have written; 0: none.
    fails_every: usize,
    /// Of looking up who is written to.
    step_takes: Duration,
    /// Counts what the runner has done, so that tests wait for it.
    progress: watch::Sender<usize>,
}

fn user(n: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(n))
}

fn number(user: UserId) -> u128 {
    user.uuid().as_u128()
}

impl Shop {
    fn of(users: u128, fails_every: usize) -> Arc<Self> {
        Arc::new(Self { users, fails_every, ..Self::default() })
    }

    fn fails(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.fails_every > 0 && call.is_multiple_of(self.fails_every)
    }

    fn store_answer<T>(&self, answer: T) -> Result<T, StoreError> {
        if self.fails() { Err(StoreError::Unavailable("as planned".into())) } else { Ok(answer) }
    }

    fn answer<T>(&self, answer: T) -> Result<T, DomainError> {
        if self.fails() { Err(DomainError::Timeout) } else { Ok(answer) }
    }

    fn launch(&self, audience: Audience) {
        let pitch = Pitch { subject: "s".into(), message: "m".into(), audience };
        let id = CampaignId::from_uuid(Uuid::now_v7());
        self.campaigns.lock().unwrap().push(Campaign::launch(id, &LaunchKey::Staff("k".into()), pitch, Timestamp(0)).0);
    }

    fn tools(self: &Arc<Self>, schedules: Vec<Schedule>, clock: fn() -> Timestamp) -> Arc<CampaignTools> {
        let (store, neighbours) = (self.clone(), self.clone());
        let (triggers, metrics) = (TriggerRules::default(), Metrics::new().campaigns);
        Arc::new(CampaignTools { store, neighbours, schedules, triggers, clock, metrics, runs: true, look_every: None })
    }

    fn start(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        tokio::spawn(run(self.tools(Vec::new(), || Timestamp(1)), Arc::new(Notify::new())))
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let mut progress = self.progress.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(3_600), progress.wait_for(|_| what(self))).await;
        waited.expect("in time").unwrap();
    }

    fn is_finished(&self) -> bool {
        self.campaigns.lock().unwrap().iter().all(|campaign| campaign.finished_at.is_some())
    }

    fn written_to(&self) -> Vec<u128> {
        let chunks = self.chunks.lock().unwrap();
        chunks.iter().flat_map(|chunk| &chunk.recipients).map(|recipient| number(recipient.user_id)).collect()
    }
}

#[async_trait]
impl CampaignStore for Shop {
    async fn launch_campaign(&self, _: Campaign, _: PendingEvent) -> Result<LaunchCampaign, StoreError> {
        Err(StoreError::Broken("not part of these tests".into()))
    }

    async fn launch_campaigns(
        &self,
        _: Vec<(Campaign, PendingEvent)>,
        _: Consumption,
    ) -> Result<Consumed<()>, StoreError> {
        Err(StoreError::Broken("not part of these tests".into()))
    }

    async fn campaigns(&self, _: &[CampaignId]) -> Result<Vec<Campaign>, StoreError> {
        Err(StoreError::Broken("not part of these tests".into()))
    }

    async fn list_campaigns(&self, _: &PageRequest) -> Result<Page<Campaign>, StoreError> {
        Err(StoreError::Broken("not part of these tests".into()))
    }

    async fn unfinished_campaign(&self) -> Result<Option<Campaign>, StoreError> {
        let next = self.campaigns.lock().unwrap().iter().find(|campaign| campaign.finished_at.is_none()).cloned();
        self.store_answer(next)
    }

    async fn advance_campaign(&self, id: CampaignId, step: Step, at: Timestamp) -> Result<AdvanceCampaign, StoreError> {
        // One commit: nobody sees the one without the other.
        let done = {
            let mut campaigns = self.campaigns.lock().unwrap();
            let campaign = campaigns.iter_mut().find(|campaign| campaign.id == id).unwrap();
            match campaign.advance(step, at) {
                Some(event) => {
                    let chunk = event.map(|event| serde_json::from_str(&event.body).unwrap());
                    self.chunks.lock().unwrap().extend(chunk);
                    AdvanceCampaign::Advanced(Box::new(campaign.clone()))
                }
                None => AdvanceCampaign::Lost,
            }
        };
        tokio::task::yield_now().await;
        self.progress.send_modify(|count| *count += 1);
        self.store_answer(done)
    }

    async fn see_schedule(&self, name: &str, at: Timestamp) -> Result<Timestamp, StoreError> {
        Ok(*self.schedules.lock().unwrap().entry(name.to_owned()).or_insert(at))
    }

    async fn fire_schedule(
        &self,
        name: &str,
        slot: Timestamp,
        campaign: Campaign,
        _: PendingEvent,
    ) -> Result<bool, StoreError> {
        let mut schedules = self.schedules.lock().unwrap();
        let settled = schedules.get_mut(name).unwrap();
        let fires = *settled < slot;
        if fires {
            *settled = slot;
            self.campaigns.lock().unwrap().push(campaign);
        }
        Ok(fires)
    }
}

#[async_trait]
impl Neighbours for Shop {
    async fn opted_in(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserId>, DomainError> {
        if !self.step_takes.is_zero() {
            tokio::time::sleep(self.step_takes).await;
        }
        let first = after.map_or(1, |user| number(user) + 1);
        self.answer((first..=self.users).take(limit as usize).map(user).collect())
    }

    async fn buyers_of(&self, category: &str, mut users: Vec<UserId>) -> Result<Vec<UserId>, DomainError> {
        assert_eq!(category, "Lighting");
        users.retain(|user| number(*user).is_multiple_of(3));
        self.answer(users)
    }

    async fn favourite_categories(
        &self,
        users: Vec<UserId>,
        _: u32,
    ) -> Result<Vec<(UserId, Vec<String>)>, DomainError> {
        let favourites = |user: &UserId| match number(*user) {
            1 => Some((*user, vec!["Lighting".to_owned(), "Rugs".to_owned()])),
            2 => Some((*user, vec!["Nothing left".to_owned()])),
            _ => None,
        };
        self.answer(users.iter().filter_map(favourites).collect())
    }

    async fn in_stock(&self, category: &str, limit: u32) -> Result<Vec<Product>, DomainError> {
        let count = if category == "Nothing left" { 0 } else { 4.min(limit) };
        let product = |n: u32| {
            let new = NewProduct {
                sku: n.to_string(),
                name: format!("{category} {n}"),
                description: String::new(),
                category: category.to_owned(),
                price: Money::new(1, "EUR".parse().unwrap()),
                available: 1,
            };
            new.create(ProductId::from_uuid(Uuid::now_v7()), Timestamp(0)).unwrap().0
        };
        self.answer((1..=count).map(product).collect())
    }

    async fn product(&self, _: ProductId) -> Result<Option<Product>, DomainError> {
        Ok(None)
    }
}

#[tokio::test(start_paused = true)]
async fn every_user_is_written_to_once_though_asks_and_answers_are_lost() {
    let users = u128::from(USERS_PER_STEP) * 4 + 7;
    let shop = Shop::of(users, 3);
    shop.launch(Audience::Everybody);
    let running = shop.start();
    shop.until(Shop::is_finished).await;
    running.abort();
    assert_eq!(shop.written_to(), (1..=users).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_campaign_goes_on_after_each_crash_where_its_cursor_is() {
    let users = u128::from(USERS_PER_STEP) * 6;
    let shop = Shop::of(users, 0);
    shop.launch(Audience::Everybody);
    let mut lives = 0;
    while !shop.is_finished() {
        let before = *shop.progress.borrow();
        let running = shop.start();
        shop.until(|shop| *shop.progress.borrow() > before || shop.is_finished()).await;
        running.abort();
        drop(running.await);
        lives += 1;
    }
    assert!(lives > 1, "it was interrupted");
    assert_eq!(shop.written_to(), (1..=users).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_each_chunk_is_written_by_one() {
    let users = u128::from(USERS_PER_STEP) * 5;
    let shop = Shop::of(users, 7);
    shop.launch(Audience::Everybody);
    let running = [shop.start(), shop.start()];
    shop.until(Shop::is_finished).await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(shop.written_to(), (1..=users).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_a_process_that_stopped_has_left_another_one_finishes_without_being_told() {
    let users = u128::from(USERS_PER_STEP) * 4;
    let shop = Shop::of(users, 0);
    let look_every = Some(Duration::from_secs(10));
    let tools = CampaignTools { look_every, ..Arc::into_inner(shop.tools(Vec::new(), || Timestamp(1))).unwrap() };
    // It has nothing to do when the other one is told of the campaign.
    let second = tokio::spawn(run(Arc::new(tools), Arc::new(Notify::new())));
    tokio::time::sleep(Duration::from_secs(1)).await;
    shop.launch(Audience::Everybody);
    let before = *shop.progress.borrow();
    let first = shop.start();
    shop.until(|shop| *shop.progress.borrow() > before).await;
    first.abort();
    drop(first.await);
    assert!(!shop.is_finished());
    shop.until(Shop::is_finished).await;
    second.abort();
    assert_eq!(shop.written_to(), (1..=users).collect::<Vec<_>>());
}

/// When the test that follows began.
static BEGAN: OnceLock<tokio::time::Instant> = OnceLock::new();
static CLOCK_AT_BEGIN: AtomicI64 = AtomicI64::new(0);

#[tokio::test(start_paused = true)]
async fn a_slot_that_comes_while_another_campaign_is_written_out_is_fired() {
    /// The first Monday's 9 o'clock.
    const SLOT: i64 = (4 * 24 + 9) * 60 * 60 * 1_000;
    fn clock() -> Timestamp {
        Timestamp(CLOCK_AT_BEGIN.load(Ordering::SeqCst) + BEGAN.get().unwrap().elapsed().as_millis() as i64)
    }
    BEGAN.set(tokio::time::Instant::now()).unwrap();
    let pitch = Pitch { subject: "s".into(), message: "m".into(), audience: Audience::Everybody };
    let schedule = Schedule::new("weekly".into(), "0 9 * * MON", pitch).unwrap();
    // The second one takes longer than the time in which a slot is made up.
    for steps in [2, 2 * 60 * 60] {
        CLOCK_AT_BEGIN.fetch_add(SLOT - 1_000 - clock().0, Ordering::SeqCst);
        let shop = Arc::new(Shop {
            users: u128::from(USERS_PER_STEP) * steps,
            step_takes: Duration::from_secs(1),
            ..Shop::default()
        });
        shop.launch(Audience::Everybody);
        let running = tokio::spawn(run(shop.tools(vec![schedule.clone()], clock), Arc::new(Notify::new())));
        let fired = async {
            while shop.campaigns.lock().unwrap().len() < 2 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2 * 60 * 60), fired).await.expect("it is fired");
        running.abort();
    }
}

/// As [`NOW`], of the test that follows.
static HOUR: AtomicI64 = AtomicI64::new(0);

#[tokio::test(start_paused = true)]
async fn what_a_slot_has_launched_is_finished_before_the_next_one_whatever_fails() {
    let hour = 60 * 60_000;
    let pitch = Pitch { subject: "s".into(), message: "m".into(), audience: Audience::Everybody };
    for fails_every in [3, 4, 5, 7] {
        HOUR.store(hour / 2, Ordering::SeqCst);
        let users = u128::from(USERS_PER_STEP) * 3;
        let shop = Shop::of(users, fails_every);
        let schedule = Schedule::new("hourly".into(), "0 * * * *", pitch.clone()).unwrap();
        let tools = shop.tools(vec![schedule], || Timestamp(HOUR.load(Ordering::SeqCst)));
        let running = tokio::spawn(run(tools, Arc::new(Notify::new())));
        tokio::time::sleep(Duration::from_secs(60)).await;
        HOUR.store(hour, Ordering::SeqCst);
        shop.until(|shop| !shop.campaigns.lock().unwrap().is_empty()).await;
        let launched = tokio::time::Instant::now();
        shop.until(Shop::is_finished).await;
        assert!(launched.elapsed() < Duration::from_secs(10 * 60), "every {fails_every}: {:?}", launched.elapsed());
        running.abort();
        assert_eq!(shop.written_to(), (1..=users).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_category_narrows_the_audience_to_its_buyers() {
    let users = u128::from(USERS_PER_STEP) + 10;
    let shop = Shop::of(users, 0);
    shop.launch(Audience::BuyersOf("Lighting".into()));
    let running = shop.start();
    shop.until(Shop::is_finished).await;
    running.abort();
    assert_eq!(shop.written_to(), (1..=users).filter(|n| n.is_multiple_of(3)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn favourites_name_to_each_user_what_is_in_stock_of_their_categories() {
    let shop = Shop::of(3, 0);
    shop.launch(Audience::Favourites);
    let running = shop.start();
    shop.until(Shop::is_finished).await;
    running.abort();
    let products = ["Lighting 1", "Rugs 1", "Lighting 2", "Rugs 2", "Lighting 3"].map(str::to_owned).into();
    let recipients = shop.chunks.lock().unwrap()[0].recipients.clone();
    assert_eq!(recipients, [CampaignRecipient { user_id: user(1), products }], "nothing to say to the others");
}

/// The clock of the schedules' test: paused time says how long was slept, this says when.
static NOW: AtomicI64 = AtomicI64::new(0);

#[tokio::test(start_paused = true)]
async fn a_slot_fires_when_it_comes_and_once_however_many_run() {
    let minute = 60_000;
    NOW.store(minute / 2, Ordering::SeqCst);
    let shop = Shop::of(2, 0);
    let pitch = Pitch { subject: "s".into(), message: "m".into(), audience: Audience::Everybody };
    let clock = || Timestamp(NOW.load(Ordering::SeqCst));
    let processes: Vec<_> = (0..2)
        .map(|_| {
            let schedule = Schedule::new("minutely".into(), "* * * * *", pitch.clone()).unwrap();
            tokio::spawn(run(shop.tools(vec![schedule], clock), Arc::new(Notify::new())))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(shop.campaigns.lock().unwrap().len(), 0, "not before its slot");
    for slot in 1..=3 {
        NOW.store(slot * minute, Ordering::SeqCst);
        shop.until(|shop| shop.campaigns.lock().unwrap().len() == slot as usize && shop.is_finished()).await;
    }
    processes.iter().for_each(tokio::task::JoinHandle::abort);
    let keys: Vec<_> = shop.campaigns.lock().unwrap().iter().map(|campaign| campaign.key.clone()).collect();
    assert_eq!(keys, [1, 2, 3].map(|slot| format!("slot/minutely/1970-01-01T00:0{slot}:00.000Z")));
}
