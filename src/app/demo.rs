//! Fills an empty shop: products and people go to their stores, orders through the real flow.
//!
//! Everything is keyed (SKUs, addresses, idempotency keys), so a fill that was interrupted goes on where it stopped:
//! what is there is passed over. A marker in the operations store says that a fill began and whether it ended.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream;
use uuid::Uuid;

use super::Core;
use super::catalogue::{CUSTOMERS, FixedSequence, ORDERS, customer, products};
use crate::actors::clock::now;
use crate::actors::errors::DomainError;
use crate::actors::orders::ASKS_OF_A_PLACEMENT;
use crate::actors::orders::messages::{AdvanceOrder, PlaceOrder};
use crate::actors::orders::verdict::await_verdict;
use crate::actors::users::hasher::PasswordHasher;
use crate::actors::users::messages::Password;
use crate::domain::events::event_type;
use crate::domain::ids::{ProductId, TypedId, UserId};
use crate::domain::inventory::WantedLine;
use crate::domain::orders::OrderStatus;
use crate::domain::page::PageRequest;
use crate::domain::products::{ProductFilter, ProductSort};
use crate::domain::text::Email;
use crate::domain::users::{PasswordHash, Preferences, Role, User};
use crate::store::StoreError;
use crate::store::orders::OrderAdvance;
use crate::store::users::{InsertUser, NewUser};

/// The password of every demo account. Demo data is refused in production.
pub const DEMO_PASSWORD: &str = "souk-demo-1001";

/// The accounts whose sign-in the start banner prints.
pub const DEMO_ACCOUNTS: [(Role, &str, &str); 3] = [
    (Role::Admin, "Demo Admin", "admin@demo.example"),
    (Role::Staff, "Demo Staff", "staff@demo.example"),
    (Role::Customer, "Demo Customer", "customer@demo.example"),
];

const MARKER: &str = "demo-fill";
const FILLING: &str = "filling";
const FILLED: &str = "filled";
/// Interrupted, and the shop was in use since: the rest of the demo must never come into it.
const ABANDONED: &str = "abandoned";

/// Orders on their way at the same time.
const CONCURRENT_ORDERS: usize = 64;

/// How long one order of the fill may take to its verdict. After one that takes longer none is waited for, nor while the event
/// log is away: a start does not wait for it.
const VERDICT_DEADLINE: Duration = Duration::from_secs(20);

/// Told of each step: how many of how many are done.
pub type Progress<'a> = &'a dyn Fn(&str, usize, usize);

/// Fills the shop if it is empty or a fill was interrupted. True: the shop holds demo data.
pub async fn fill_if_empty(core: &Core, progress: Progress<'_>) -> anyhow::Result<bool> {
    match core.stores.markers.marker(MARKER).await?.as_deref() {
        Some(FILLED) => return Ok(true),
        Some(ABANDONED) => return Ok(false),
        Some(_) => {}
        None => {
            let has_products = core.stores.products.count_products().await? > 0;
            if has_products || core.stores.users.count_shoppers().await? > 0 {
                return Ok(false);
            }
            core.stores.markers.set_marker(MARKER, FILLING).await?;
        }
    }
    fill_products(core, progress).await.context("could not fill the catalogue")?;
    let customers = fill_people(core, progress).await.context("could not make the demo accounts")?;
    fill_orders(core, &customers, progress).await.context("could not place the demo orders")?;
    core.stores.markers.set_marker(MARKER, FILLED).await?;
    Ok(true)
}

/// A fill that was interrupted is not to go on: the shop is about to be used without it.
pub async fn abandon_interrupted(core: &Core) -> Result<(), StoreError> {
    if core.stores.markers.marker(MARKER).await?.as_deref() == Some(FILLING) {
        core.stores.markers.set_marker(MARKER, ABANDONED).await?;
    }
    Ok(())
}

async fn fill_products(core: &Core, progress: Progress<'_>) -> anyhow::Result<()> {
    let at = now();
    let mut created = Vec::new();
    for product in products(core.currency) {
        created.push(product.create(ProductId::from_uuid(Uuid::now_v7()), at)?);
    }
    let count = created.len();
    core.stores.products.insert_products(created).await?;
    progress("products", count, count);
    Ok(())
}

async fn fill_people(core: &Core, progress: Progress<'_>) -> anyhow::Result<Vec<UserId>> {
    // One hash for all: they share their password, and each further one would cost a quarter of a second.
    let password_hash = hash_demo_password(&core.hasher).await?;
    let mut customers = Vec::with_capacity(CUSTOMERS);
    for (role, name, email) in DEMO_ACCOUNTS {
        let id = ensure_user(core, role, name, email, &password_hash).await?;
        if role == Role::Customer {
            customers.push(id);
        }
    }
    for number in 1..CUSTOMERS {
        let (name, email) = customer(number);
        customers.push(ensure_user(core, Role::Customer, &name, &email, &password_hash).await?);
    }
    progress("customers", customers.len(), CUSTOMERS);
    Ok(customers)
}

async fn hash_demo_password(hasher: &PasswordHasher) -> anyhow::Result<PasswordHash> {
    Ok(hasher.hash(&Password(DEMO_PASSWORD.to_owned())).await?)
}

async fn ensure_user(
    core: &Core,
    role: Role,
    name: &str,
    email: &str,
    password_hash: &PasswordHash,
) -> anyhow::Result<UserId> {
    let email = Email::parse(email)?;
    if let Some((user, _)) = core.stores.users.credentials(&email).await? {
        return Ok(user.id);
    }
    let at = now();
    let mut user = User {
        id: UserId::from_uuid(Uuid::now_v7()),
        email,
        name: name.to_owned(),
        role,
        email_verified: true,
        preferences: Preferences::default(),
        token_epoch: 0,
        demo: true,
        created_at: at,
        updated_at: at,
        event_sequence: 0,
        erased_at: None,
    };
    let event = user.event(event_type::USER_SIGNED_UP, at);
    let id = user.id;
    let new = NewUser { user, password_hash: password_hash.clone(), verification: None, event };
    let address = new.user.email.clone();
    match core.stores.users.insert_user(new).await? {
        InsertUser::Inserted => Ok(id),
        // Another process fills the same shop.
        InsertUser::EmailTaken => {
            let there = core.stores.users.credentials(&address).await?;
            there.map(|(user, _)| user.id).context("an account of the demo was erased while it was filled")
        }
    }
}

async fn fill_orders(core: &Core, customers: &[UserId], progress: Progress<'_>) -> anyhow::Result<()> {
    let catalogue = demo_products(core).await?;
    let mut draw = FixedSequence::new(11);
    let mut plans = Vec::with_capacity(ORDERS);
    for number in 0..ORDERS {
        // A third of the orders come from a tenth of the customers, and some products sell more than others.
        let customer = if draw.below(3) == 0 { draw.below(customers.len() / 10) } else { draw.below(customers.len()) };
        let lines = (0..1 + draw.below(3))
            .map(|_| {
                let skewed = draw.below(catalogue.len()).min(draw.below(catalogue.len()));
                WantedLine { product_id: catalogue[skewed], quantity: 1 + draw.below(2) as u32 }
            })
            .collect();
        plans.push((number, customers[customer], lines, draw.below(10)));
    }
    let is_log_there = core.readings.log.check().await.is_ok();
    let patience = Cell::new(if is_log_there { VERDICT_DEADLINE } else { Duration::ZERO });
    let mut placed = stream::iter(plans)
        .map(|(number, customer, lines, fate)| place_one(core, &patience, number, customer, lines, fate))
        .buffer_unordered(CONCURRENT_ORDERS);
    let mut done = 0;
    while let Some(order) = placed.next().await {
        order?;
        done += 1;
        progress("orders", done, ORDERS);
    }
    if patience.get().is_zero() {
        tracing::warn!("demo orders have no verdict yet, so none of these is shipped: is the event log there?");
    }
    Ok(())
}

/// The demo's products by SKU, so that the orders are the same in every demo shop.
async fn demo_products(core: &Core) -> anyhow::Result<Vec<ProductId>> {
    let mut by_sku = HashMap::new();
    let mut page = PageRequest::first(100);
    loop {
        let listed = core.stores.products.list_products(&ProductFilter::default(), ProductSort::Name, &page).await?;
        page.after = listed.entries.last().map(|(cursor, _)| cursor.clone());
        by_sku.extend(listed.entries.into_iter().map(|(_, product)| (product.sku, product.id)));
        if !listed.has_next {
            break;
        }
    }
    let ids: Vec<_> = products(core.currency).iter().filter_map(|product| by_sku.get(&product.sku).copied()).collect();
    if ids.is_empty() {
        bail!("the demo's products are gone");
    }
    Ok(ids)
}

async fn place_one(
    core: &Core,
    patience: &Cell<Duration>,
    number: usize,
    customer_id: UserId,
    lines: Vec<WantedLine>,
    fate: usize,
) -> anyhow::Result<()> {
    let request = PlaceOrder { customer_id, idempotency_key: format!("demo-{number}"), lines };
    let placed = core.orders.ask(request, core.ask_deadline * ASKS_OF_A_PLACEMENT).await??;
    let order =
        await_verdict(&core.orders, &core.live, placed.order, customer_id, patience.get(), core.ask_deadline).await;
    if order.status == OrderStatus::Pending {
        patience.set(Duration::ZERO);
    }
    // An interrupted fill may have stopped between two steps: it goes on from where this order stands.
    let has_been = |status| order.timeline.iter().any(|entry| entry.status == status);
    if !has_been(OrderStatus::Confirmed) {
        return Ok(());
    }
    // Seven of ten orders are on their way or arrived, one was cancelled, the rest are fresh.
    let steps: &[OrderStatus] = match fate {
        0..=4 => &[OrderStatus::Shipped, OrderStatus::Delivered],
        5..=6 => &[OrderStatus::Shipped],
        7 => &[OrderStatus::Cancelled],
        _ => &[],
    };
    for to in steps.iter().filter(|to| !has_been(**to)) {
        let advance = OrderAdvance { id: order.id, customer_id: None, to: *to, note: None };
        match core.orders.ask(AdvanceOrder { advance }, core.ask_deadline).await? {
            Ok(_) => {}
            // Another process fills the same shop, and takes this order on.
            Err(DomainError::IllegalTransition(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
