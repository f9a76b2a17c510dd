//! What a root field is given, so that whoever is let in reaches what they ask for and leaves the shop usable.

use serde_json::{Value, json};

use super::rows::Row;
use super::world::{Caller, Target, World};
use crate::support::client::{fresh_email, unique};
use crate::support::{Account, PASSWORD};

/// How the arguments of a root field are declared as variables, and how they are given.
pub fn text_of(entry: &str) -> (&'static str, &'static str) {
    match entry {
        "node" | "user" | "product" | "order" | "orderCancel" | "orderShip" | "orderDeliver" | "apiKeyRevoke" => {
            ("($id: ID!)", "(id: $id)")
        }
        "orderUpdated" => ("($id: ID!)", "(id: $id, after: 0)"),
        "userRoleUpdate" => ("($id: ID!, $role: Role!)", "(id: $id, role: $role)"),
        "productUpdate" => ("($id: ID!, $input: ProductUpdateInput!)", "(id: $id, input: $input)"),
        "productArchive" => ("($id: ID!)", "(id: $id, expectedVersion: 99)"),
        "stockAdjust" => ("($id: ID!)", "(productId: $id, delta: 1, reason: \"Counted.\")"),
        "stockChanged" => ("($id: ID!)", "(productIds: [$id])"),
        "recommendationRate" => ("($id: ID!)", "(productId: $id, liked: true)"),
        "notificationsMarkRead" | "deadLetterReplay" | "deadLetterDiscard" => ("($id: ID!)", "(ids: [$id])"),
        "signUp" => ("($input: SignUpInput!)", "(input: $input)"),
        "signIn" => ("($input: SignInInput!)", "(input: $input)"),
        "tokenRefresh" => ("($token: String!)", "(refreshToken: $token)"),
        "signOut" => ("($token: String!)", "(refreshToken: $token)"),
        "passwordResetRequest" => ("($email: String!)", "(email: $email)"),
        "passwordReset" => ("", "(token: \"none\", newPassword: \"another horse battery\")"),
        "passwordChange" => ("", "(currentPassword: \"not the password\", newPassword: \"another horse battery\")"),
        "emailVerify" | "unsubscribe" => ("", "(token: \"none\")"),
        "userUpdate" => ("", "(input: { name: \"Test Customer\" })"),
        "preferencesUpdate" => ("", "(input: { orderUpdates: true })"),
        "accountExport" => ("($password: String!)", "(password: $password)"),
        "accountDelete" => ("", "(password: \"not the password\")"),
        "productCreate" => ("($input: ProductCreateInput!)", "(input: $input)"),
        "apiKeyCreate" => ("", "(input: { name: \"Key\", scopes: [ORDERS_READ] })"),
        "orderPlace" => ("($input: OrderPlaceInput!)", "(input: $input)"),
        "campaignLaunch" => {
            ("", "(input: { idempotencyKey: \"matrix\", subject: \"News\", message: \"There is something new.\" })")
        }
        _ => ("", ""),
    }
}

/// The variables of a cell.
pub fn of(world: &World, row: &Row, caller: Caller, target: Target, session: Option<&Account>) -> Value {
    match row.entry() {
        "signUp" => json!({ "input": { "email": fresh_email(), "name": "New", "password": PASSWORD } }),
        "signIn" => json!({ "input": { "email": world.email(caller), "password": PASSWORD } }),
        "passwordResetRequest" => json!({ "email": world.email(caller) }),
        "tokenRefresh" | "signOut" => json!({ "token": session.map_or("none", |session| &session.refresh_token) }),
        "accountExport" => json!({ "password": PASSWORD }),
        "productCreate" => {
            let price = json!({ "minorUnits": 100, "currency": "EUR" });
            let sku = unique("SKU");
            json!({ "input": { "sku": sku, "name": "New", "category": "Tests", "price": price, "available": 1 } })
        }
        "orderPlace" => {
            let lines = json!([{ "productId": world.product, "quantity": 1 }]);
            json!({ "input": { "idempotencyKey": unique("key"), "lines": lines, "waitMs": 0 } })
        }
        // A version that there is not: whoever may edit is told so, and the product stays as it is.
        "productUpdate" => json!({ "id": world.id(row.subject(), caller, target), "input": { "expectedVersion": 99 } }),
        "userRoleUpdate" => {
            let role = if target == Target::Own && caller == Caller::Admin { "ADMIN" } else { "CUSTOMER" };
            json!({ "id": world.id(row.subject(), caller, target), "role": role })
        }
        _ if target == Target::Any => json!({}),
        _ => json!({ "id": world.id(row.subject(), caller, target) }),
    }
}
