//! An actor that can fail in every way, with a script that outlives its values.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{
    Actor, ActorContext, AsyncContext, AtomicResponse, Context, Handler, Message, MessageResult, ResponseActFuture,
    ResponseFuture, Supervised,
};
use tokio::time::sleep;

use super::super::{ActorSpec, StartError};
use crate::actors::Address;

/// What the values of one probe have in common.
#[derive(Default)]
pub(super) struct Script {
    pub(super) built: AtomicU32,
    pub(super) dropped: AtomicU32,
    pub(super) failing_factory: AtomicU32,
    pub(super) panicking_factory: AtomicU32,
    pub(super) panicking_started: AtomicU32,
    pub(super) panicking_restarting: AtomicU32,
    /// Messages that an abandoned value still worked on to the end.
    pub(super) late: AtomicU32,
}

pub(super) fn once_of(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// What happened to all probes of a test, in order.
pub(super) type Journal = Arc<Mutex<Vec<String>>>;

pub(super) fn entries(journal: &Journal) -> Vec<String> {
    journal.lock().unwrap().clone()
}

pub(super) struct Probe {
    name: String,
    count: u32,
    script: Arc<Script>,
    journal: Journal,
}

impl Probe {
    fn note(&self, what: &str) {
        self.journal.lock().unwrap().push(format!("{what} {}", self.name));
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        if once_of(&self.script.panicking_started) {
            panic!("no start today");
        }
        self.note("started");
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.note("stopped");
    }
}

impl Supervised for Probe {
    fn restarting(&mut self, _: &mut Context<Self>) {
        if once_of(&self.script.panicking_restarting) {
            panic!("no restart today");
        }
        self.note("restarting");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.script.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) fn probe_at(address: Address<Probe>, script: &Arc<Script>, journal: &Journal) -> ActorSpec<Probe> {
    let (script, journal, name) = (Arc::clone(script), Arc::clone(journal), address.name().to_owned());
    ActorSpec::at(address, move || {
        if once_of(&script.failing_factory) {
            return Err(StartError::new("the ports are away"));
        }
        if once_of(&script.panicking_factory) {
            panic!("no factory today");
        }
        script.built.fetch_add(1, Ordering::SeqCst);
        Ok(Probe { name: name.clone(), count: 0, script: Arc::clone(&script), journal: Arc::clone(&journal) })
    })
}

pub(super) fn scripted(name: &str, script: &Arc<Script>) -> ActorSpec<Probe> {
    probe_at(Address::reserve(name), script, &Journal::default())
}

pub(super) fn journaled(name: &str, journal: &Journal) -> ActorSpec<Probe> {
    probe_at(Address::reserve(name), &Arc::default(), journal)
}

pub(super) fn probe(name: &str) -> ActorSpec<Probe> {
    scripted(name, &Arc::default())
}

/// Adds one and tells the count: 1 from a fresh value.
#[derive(Message)]
#[rtype(result = "u32")]
pub(super) struct Count;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Note(pub(super) &'static str);

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PanicNow;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PanicInActorFuture;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PanicInDetachedFuture;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PanicInTimer;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PanicInSpawnedFuture;

/// Takes its time inside the actor.
#[derive(Message)]
#[rtype(result = "u32")]
pub(super) struct Work(pub(super) Duration);

/// Takes its time beside the actor.
#[derive(Message)]
#[rtype(result = "u32")]
pub(super) struct WorkDetached(pub(super) Duration);

/// Takes its time and keeps the actor from taking messages meanwhile.
#[derive(Message)]
#[rtype(result = "u32")]
pub(super) struct WorkAlone(pub(super) Duration);

#[derive(Message)]
#[rtype(result = "String")]
pub(super) struct Name;

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopYourself;

/// Blocks the thread in the middle of a message.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Block(pub(super) Duration);

impl Handler<Count> for Probe {
    type Result = u32;
    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> u32 {
        self.count += 1;
        self.count
    }
}

impl Handler<Note> for Probe {
    type Result = ();
    fn handle(&mut self, Note(what): Note, _: &mut Context<Self>) {
        self.note(what);
    }
}

impl Handler<PanicNow> for Probe {
    type Result = ();
    fn handle(&mut self, _: PanicNow, _: &mut Context<Self>) {
        self.count += 1000;
        panic!("sync handler is broken");
    }
}

impl Handler<PanicInActorFuture> for Probe {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, _: PanicInActorFuture, _: &mut Context<Self>) -> Self::Result {
        Box::pin(
            wrap_future(sleep(Duration::from_millis(10))).map(|_, _: &mut Self, _| panic!("async handler is broken")),
        )
    }
}

impl Handler<PanicInDetachedFuture> for Probe {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: PanicInDetachedFuture, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async { panic!("detached future is broken") })
    }
}

impl Handler<PanicInTimer> for Probe {
    type Result = ();
    fn handle(&mut self, _: PanicInTimer, context: &mut Context<Self>) {
        context.run_later(Duration::from_millis(10), |_, _| panic!("timer is broken"));
    }
}

impl Handler<PanicInSpawnedFuture> for Probe {
    type Result = ();
    fn handle(&mut self, _: PanicInSpawnedFuture, context: &mut Context<Self>) {
        context.spawn(wrap_future(async { panic!("spawned future is broken") }));
    }
}

impl Handler<Work> for Probe {
    type Result = ResponseActFuture<Self, u32>;
    fn handle(&mut self, Work(how_long): Work, _: &mut Context<Self>) -> Self::Result {
        Box::pin(wrap_future(sleep(how_long)).map(|(), probe: &mut Self, _| {
            probe.count += 1;
            probe.count
        }))
    }
}

impl Handler<WorkDetached> for Probe {
    type Result = ResponseFuture<u32>;
    fn handle(&mut self, WorkDetached(how_long): WorkDetached, _: &mut Context<Self>) -> Self::Result {
        self.count += 1;
        let count = self.count;
        Box::pin(async move {
            sleep(how_long).await;
            count
        })
    }
}

impl Handler<WorkAlone> for Probe {
    type Result = AtomicResponse<Self, u32>;
    fn handle(&mut self, WorkAlone(how_long): WorkAlone, _: &mut Context<Self>) -> Self::Result {
        AtomicResponse::new(Box::pin(wrap_future(sleep(how_long)).map(|(), probe: &mut Self, _| {
            probe.count += 1;
            probe.count
        })))
    }
}

impl Handler<Name> for Probe {
    type Result = MessageResult<Name>;
    fn handle(&mut self, _: Name, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.name.clone())
    }
}

impl Handler<StopYourself> for Probe {
    type Result = ();
    fn handle(&mut self, _: StopYourself, context: &mut Context<Self>) {
        context.stop();
    }
}

impl Handler<Block> for Probe {
    type Result = ();
    fn handle(&mut self, Block(how_long): Block, _: &mut Context<Self>) {
        block_this_thread(how_long);
        self.script.late.fetch_add(1, Ordering::SeqCst);
    }
}

#[expect(clippy::disallowed_methods, reason = "a blocked thread is what the frozen-thread cases are about")]
pub(super) fn block_this_thread(how_long: Duration) {
    std::thread::sleep(how_long);
}
