//! A user's own account: passwords, tokens of mailed links, name, export, deletion.

use serde_json::json;
use souk::domain::mail_requests::MailRequestKind;
use souk::domain::users::Subscription;

use crate::row::{Row, field_error, request_error, user_error};
use crate::support::{MailLinks, PASSWORD};
use crate::world::World;

const RESET_REQUEST: &str =
    "mutation($email: String!) { passwordResetRequest(email: $email) { accepted userErrors { code message field } } }";
const RESET: &str = "mutation($token: String!, $password: String!) { passwordReset(token: $token, newPassword: $password) { session { user { id } } userErrors { code message field } } }";
const CHANGE: &str = "mutation($current: String!, $password: String!) { passwordChange(currentPassword: $current, newPassword: $password) { session { user { id } } userErrors { code message field } } }";
const VERIFY: &str =
    "mutation($token: String!) { emailVerify(token: $token) { user { id } userErrors { code message field } } }";
const RESEND: &str = "mutation { emailVerificationResend { user { id } userErrors { code message field } } }";
const UNSUBSCRIBE: &str =
    "mutation($token: String!) { unsubscribe(token: $token) { unsubscribed userErrors { code message field } } }";
const UPDATE: &str = "mutation($input: UserUpdateInput!) { userUpdate(input: $input) { user { id } userErrors { code message field } } }";
const EXPORT: &str =
    "mutation($password: String!) { accountExport(password: $password) { export userErrors { code message field } } }";
const DELETE: &str =
    "mutation($password: String!) { accountDelete(password: $password) { deleted userErrors { code message field } } }";

#[actix_rt::test]
async fn no_token_that_is_none_and_no_wrong_password_does_anything() {
    let world = World::new().await;
    let customer = Some(world.customer.token.as_str());
    let links = MailLinks::of(&world.app).await;
    let verification = links.newest(&world.customer, MailRequestKind::Verification).await;
    let unsubscribe = links.unsubscribe(&world.customer, Subscription::OrderUpdates);
    let mut rows = Vec::new();

    for (name, token) in [
        ("empty", String::new()),
        ("unknown", "A".repeat(verification.len())),
        ("NUL", "\0".into()),
        ("CRLF", "a\r\nb".into()),
        ("not ASCII", "🐪".repeat(20)),
        ("an access token", world.customer.token.clone()),
        ("a refresh token", world.customer.refresh_token.clone()),
        ("a user's id", world.customer.id.clone()),
        ("100,000 characters", "x".repeat(100_000)),
        (
            "changed in one place",
            format!("{}{}", if verification.starts_with('A') { 'B' } else { 'A' }, &verification[1..]),
        ),
    ] {
        let invalid = || user_error("TOKEN_INVALID", "token");
        let variables = json!({ "token": token, "password": "another horse battery" });
        rows.push(Row::post(&format!("passwordReset: {name} token"), None, RESET, variables, invalid()));
        let variables = json!({ "token": token });
        rows.push(Row::post(&format!("emailVerify: {name} token"), None, VERIFY, variables.clone(), invalid()));
        rows.push(Row::post(&format!("unsubscribe: {name} token"), None, UNSUBSCRIBE, variables, invalid()));
    }
    // A token serves its own purpose only.
    for (name, query, token) in [
        ("emailVerify: of mails", VERIFY, &unsubscribe),
        ("unsubscribe: of a verification", UNSUBSCRIBE, &verification),
        ("passwordReset: of a verification", RESET, &verification),
        ("passwordReset: of mails", RESET, &unsubscribe),
    ] {
        let variables = json!({ "token": token, "password": "another horse battery" });
        rows.push(Row::post(name, None, query, variables, user_error("TOKEN_INVALID", "token")));
    }
    for (name, password) in [
        ("empty", String::new()),
        ("7 characters", "1234567".into()),
        ("129 characters", "x".repeat(129)),
        ("100,000 characters", "x".repeat(100_000)),
        ("NUL", "correct\0horse".into()),
    ] {
        let weak = || user_error("WEAK_PASSWORD", "newPassword");
        let variables = json!({ "token": "x", "current": PASSWORD, "password": password });
        rows.push(Row::post(&format!("passwordReset: {name} password"), None, RESET, variables.clone(), weak()));
        rows.push(Row::post(&format!("passwordChange: {name} password"), customer, CHANGE, variables, weak()));
        let wrong = |field| user_error("INVALID_CREDENTIALS", field);
        let variables = json!({ "current": password, "password": "another horse battery" });
        rows.push(Row::post(
            &format!("passwordChange: {name} current"),
            customer,
            CHANGE,
            variables,
            wrong("currentPassword"),
        ));
        let variables = json!({ "password": password });
        rows.push(Row::post(&format!("accountExport: {name}"), customer, EXPORT, variables.clone(), wrong("password")));
        rows.push(Row::post(&format!("accountDelete: {name}"), customer, DELETE, variables, wrong("password")));
    }
    for (name, email) in [
        ("empty", ""),
        ("no address", "ada"),
        ("display name", "Ada <ada@test.example>"),
        ("CRLF", "ada@test.example\r\nBcc: eve@test.example"),
        ("NUL", "ada\0@test.example"),
    ] {
        rows.push(Row::post(
            &format!("passwordResetRequest: {name}"),
            None,
            RESET_REQUEST,
            json!({ "email": email }),
            user_error("INVALID_INPUT", "email"),
        ));
    }
    for (name, text) in [
        ("empty", String::new()),
        ("blank", "   ".into()),
        ("101 characters", "é".repeat(101)),
        ("NUL", "A\0".into()),
        ("newline", "A\nB".into()),
    ] {
        rows.push(Row::post(
            &format!("userUpdate: {name} name"),
            customer,
            UPDATE,
            json!({ "input": { "name": text } }),
            user_error("INVALID_INPUT", "input.name"),
        ));
    }
    for (name, input) in
        [("a number for a name", json!({ "name": 5 })), ("an unknown field", json!({ "role": "ADMIN" }))]
    {
        let expected = request_error("BAD_USER_INPUT");
        rows.push(Row::post(&format!("userUpdate: {name}"), customer, UPDATE, json!({ "input": input }), expected));
    }
    let variables = json!({ "current": PASSWORD, "password": PASSWORD, "input": { "name": "A" } });
    for (name, query) in [
        ("passwordChange", CHANGE),
        ("emailVerificationResend", RESEND),
        ("userUpdate", UPDATE),
        ("accountExport", EXPORT),
        ("accountDelete", DELETE),
    ] {
        let expected = field_error("UNAUTHENTICATED", "");
        rows.push(Row::post(&format!("{name}: anonymous"), None, query, variables.clone(), expected));
    }
    world.judge(&rows).await;
}
