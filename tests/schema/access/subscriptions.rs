//! The rows of subscriptions: all are opened, then everything happens that they tell of, and what each says first is
//! judged.

use std::convert::Infallible;

use serde_json::json;

use super::outcome::{self, Outcome};
use super::rows::{Row, Schema};
use super::world::{Caller, World, make_dead_letter};
use super::{Cell, Judged, arguments, expectation};
use crate::support::Socket;
use crate::support::client::unique;

struct Open {
    row: usize,
    cell: Cell,
    socket: Socket,
    id: String,
}

pub async fn judge(schema: &Schema, world: &World) -> Vec<Judged> {
    let rows = schema.rows_of("Subscription");
    let mut opened = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        for caller in Caller::ALL {
            for &target in caller.targets(row.about(schema)) {
                let token = world.account(caller).map(|account| account.token.as_str());
                let mut socket = Socket::connect(world.app.public, token).await;
                let variables = arguments::of(world, row, caller, target, None);
                let id = socket.subscribe(&row.document(), variables).await;
                let expected = expectation::of(schema, row, caller, target);
                let cell = Cell { caller, target, expected, observed: Outcome::Nothing };
                opened.push(Open { row: position, cell, socket, id });
            }
        }
    }
    let mut judged: Vec<_> = rows.into_iter().map(|row| Judged { row, cells: Vec::new() }).collect();
    let all_have_spoken = async {
        for Open { row, mut cell, mut socket, id } in opened {
            cell.observed = first_of(&judged[row].row, &mut socket, &id).await;
            judged[row].cells.push(cell);
        }
    };
    tokio::select! {
        () = all_have_spoken => {}
        never = let_things_happen(world) => match never {},
    }
    judged
}

/// Over and over: what happens before a subscription has begun is not told by it.
async fn let_things_happen(world: &World) -> Infallible {
    let staff = world.account(Caller::Staff).expect("staff have an account");
    loop {
        make_dead_letter(&world.app, staff, &unique("order")).await;
        for caller in [Caller::Other, Caller::Owner, Caller::Staff, Caller::Admin] {
            let account = world.account(caller).expect("signed in");
            world.app.place(account, &unique("key"), &[(&world.product, 1)], 30_000).await;
        }
    }
}

/// What the first message of a subscription says.
async fn first_of(row: &Row, socket: &mut Socket, id: &str) -> Outcome {
    let message = socket.next_of(id).await.expect("the socket stays open");
    match message["type"].as_str() {
        Some("error") => outcome::of(row, &json!({ "errors": message["payload"] })),
        _ => outcome::of(row, &message["payload"]),
    }
}
