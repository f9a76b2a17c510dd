//! Users and sessions.

use serde_json::{Value, json};

use crate::row::{Row, field_error, is_null, request_error, user_error};
use crate::support::PASSWORD;
use crate::world::{MISSING_USER, World};

pub const SIGN_UP: &str = "mutation($input: SignUpInput!) { signUp(input: $input) { session { user { id } } userErrors { code message field } } }";
const SIGN_IN: &str = "mutation($input: SignInInput!) { signIn(input: $input) { session { user { id } } userErrors { code message field } } }";
const REFRESH: &str = "mutation($token: String!) { tokenRefresh(refreshToken: $token) { session { user { id } } userErrors { code message field } } }";
const SIGN_OUT: &str = "mutation($token: String!) { signOut(refreshToken: $token, everywhere: true) { signedOut userErrors { code message field } } }";
const PREFERENCES: &str = "mutation($input: PreferencesInput!) { preferencesUpdate(input: $input) { user { id } userErrors { code message field } } }";
const ROLE: &str = "mutation($id: ID!, $role: Role!) { userRoleUpdate(id: $id, role: $role) { user { id } userErrors { code message field } } }";

fn sign_up(name: &str, field: &str, value: Value) -> Row {
    let mut input = json!({ "email": "new@test.example", "name": "New", "password": PASSWORD });
    input[field] = value;
    let code = if field == "password" { "WEAK_PASSWORD" } else { "INVALID_INPUT" };
    Row::post(
        &format!("signUp: {name}"),
        None,
        SIGN_UP,
        json!({ "input": input }),
        user_error(code, &format!("input.{field}")),
    )
}

#[actix_rt::test]
async fn accounts_are_not_made_or_changed_by_bad_input() {
    let world = World::new().await;
    let customer = Some(world.customer.token.as_str());
    let (staff, admin) = (Some(world.staff.token.as_str()), Some(world.admin.token.as_str()));
    let mut rows = Vec::new();
    let domain = ["b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".");
    let of_255 = format!("{}@{domain}.example", "a".repeat(64));
    assert_eq!(of_255.len(), 254 + 1);
    for (name, email) in [
        ("empty e-mail", ""),
        ("no domain", "ada@"),
        ("no at sign", "ada.example"),
        ("no top-level domain", "ada@localhost"),
        ("display name", "Ada <ada@test.example>"),
        ("CRLF in the e-mail", "ada@test.example\r\nBcc: eve@test.example"),
        ("NUL in the e-mail", "ada\0@test.example"),
        ("tab in the e-mail", "ada\t@test.example"),
        ("blank around the e-mail", " ada@test.example"),
        ("two addresses", "ada@test.example,eve@test.example"),
        ("e-mail of 255 characters", of_255.as_str()),
    ] {
        rows.push(sign_up(name, "email", json!(email)));
    }
    for (name, text) in [
        ("empty name", String::new()),
        ("blank name", "   ".into()),
        ("name of 101 characters", "é".repeat(101)),
        ("NUL in the name", "A\0".into()),
        ("tab in the name", "A\tB".into()),
        ("newline in the name", "A\nB".into()),
        ("C1 control in the name", "A\u{85}B".into()),
        ("DEL in the name", "A\u{7f}B".into()),
    ] {
        rows.push(sign_up(name, "name", json!(text)));
    }
    for (name, password) in [
        ("empty password", String::new()),
        ("password of 7 characters", "1234567".into()),
        ("password of 7 wide characters", "🐪".repeat(7)),
        ("password of 129 characters", "x".repeat(129)),
        ("password of 129 wide characters", "🐪".repeat(129)),
        ("NUL in the password", "correct\0horse".into()),
        ("tab in the password", "correct\thorse".into()),
        ("common password", "iloveyou".into()),
        ("common password in capitals", "PASSWORD123".into()),
        ("common password, full-width", "ｐａｓｓｗｏｒｄ１".into()),
    ] {
        rows.push(sign_up(name, "password", json!(password)));
    }
    let taken = json!({ "input": { "email": world.customer.email.to_uppercase(), "name": "A", "password": PASSWORD } });
    rows.push(Row::post(
        "signUp: a taken e-mail in capitals",
        None,
        SIGN_UP,
        taken,
        user_error("EMAIL_TAKEN", "input.email"),
    ));
    for (name, input) in [
        ("signUp: no e-mail", json!({ "name": "A", "password": PASSWORD })),
        ("signUp: null name", json!({ "email": "a@test.example", "name": null, "password": PASSWORD })),
        ("signUp: a number for a name", json!({ "email": "a@test.example", "name": 5, "password": PASSWORD })),
        (
            "signUp: an unknown field",
            json!({ "email": "a@test.example", "name": "A", "password": PASSWORD, "role": "ADMIN" }),
        ),
        (
            "signUp: a text for preferences",
            json!({ "email": "a@test.example", "name": "A", "password": PASSWORD, "preferences": "all" }),
        ),
    ] {
        rows.push(Row::post(name, None, SIGN_UP, json!({ "input": input }), request_error("BAD_USER_INPUT")));
    }
    for (name, email, password) in [
        ("wrong password", world.customer.email.as_str(), "wrong password"),
        ("unknown account", "nobody@test.example", PASSWORD),
        ("no e-mail address", "\0", PASSWORD),
        ("empty", "", ""),
    ] {
        let input = json!({ "input": { "email": email, "password": password } });
        rows.push(Row::post(&format!("signIn: {name}"), None, SIGN_IN, input, user_error("INVALID_CREDENTIALS", "")));
    }
    let input = json!({ "input": { "email": world.customer.email, "password": "x".repeat(100_000) } });
    rows.push(Row::post("signIn: a password of 100,000", None, SIGN_IN, input, user_error("INVALID_CREDENTIALS", "")));
    for (name, token) in [
        ("unknown", "srt_unknown".to_owned()),
        ("empty", String::new()),
        ("NUL", "\0".into()),
        ("an access token", world.customer.token.clone()),
        ("100,000 characters", "x".repeat(100_000)),
    ] {
        let variables = json!({ "token": token });
        let expected = || user_error("TOKEN_INVALID", "refreshToken");
        rows.push(Row::post(&format!("tokenRefresh: {name}"), None, REFRESH, variables.clone(), expected()));
        rows.push(Row::post(&format!("signOut: {name}"), customer, SIGN_OUT, variables, expected()));
    }
    let foreign = json!({ "token": world.stranger.refresh_token });
    rows.push(Row::post(
        "signOut: a foreign token",
        customer,
        SIGN_OUT,
        foreign.clone(),
        user_error("TOKEN_INVALID", "refreshToken"),
    ));
    rows.push(Row::post("signOut: anonymous", None, SIGN_OUT, foreign, field_error("UNAUTHENTICATED", "")));

    let input = json!({ "input": { "promotions": true } });
    rows.push(Row::post("preferencesUpdate: anonymous", None, PREFERENCES, input, field_error("UNAUTHENTICATED", "")));
    let input = json!({ "input": { "promotions": "yes" } });
    rows.push(Row::post("preferencesUpdate: a text", customer, PREFERENCES, input, request_error("BAD_USER_INPUT")));
    let input = json!({ "input": { "spam": true } });
    rows.push(Row::post("preferencesUpdate: unknown", customer, PREFERENCES, input, request_error("BAD_USER_INPUT")));

    for (name, id) in
        [("missing", MISSING_USER), ("malformed", "usr_x"), ("of an order", world.order.as_str()), ("empty", "")]
    {
        let variables = json!({ "id": id, "role": "STAFF" });
        rows.push(Row::post(
            &format!("userRoleUpdate: {name} id"),
            admin,
            ROLE,
            variables,
            user_error("NOT_FOUND", "id"),
        ));
        let query = "query($id: ID!) { user(id: $id) { id } }";
        rows.push(Row::post(&format!("user: {name} id"), customer, query, json!({ "id": id }), is_null("user")));
    }
    let variables = json!({ "id": world.customer.id, "role": "ADMIN" });
    for (name, token, code) in
        [("anonymous", None, "UNAUTHENTICATED"), ("customer", customer, "FORBIDDEN"), ("staff", staff, "FORBIDDEN")]
    {
        rows.push(Row::post(&format!("userRoleUpdate: {name}"), token, ROLE, variables.clone(), field_error(code, "")));
    }
    let variables = json!({ "id": world.customer.id, "role": "OWNER" });
    rows.push(Row::post("userRoleUpdate: unknown role", admin, ROLE, variables, request_error("BAD_USER_INPUT")));
    let foreign = format!("{{ user(id: \"{}\") {{ id }} }}", world.stranger.id);
    rows.push(Row::post("user: foreign", customer, &foreign, json!({}), is_null("user")));
    rows.push(Row::post("user: anonymous", None, &foreign, json!({}), field_error("UNAUTHENTICATED", "")));
    rows.push(Row::post("me: anonymous", None, "{ me { id } }", json!({}), is_null("me")));
    world.judge(&rows).await;
}
