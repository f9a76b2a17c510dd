//! API keys: made and revoked by their users, used by machines over every transport, within their scopes.

use std::time::Duration;

use serde_json::{Value, json};
use souk::actors::clock::now;
use souk::domain::mail_requests::MailRequestKind;
use souk::domain::time::Timestamp;
use souk::domain::users::Role;

use crate::support::client::{ORDER_PLACE, place_variables, unique};
use crate::support::events::Events;
use crate::support::{Account, MailLinks, PASSWORD, Socket, TestApp, eventually, spawn_app, spawn_app_with};

const CREATE: &str = "mutation($input: ApiKeyCreateInput!) { apiKeyCreate(input: $input) {
    apiKey { id name prefix scopes createdAt lastUsedAt expiresAt revokedAt } secret userErrors { code message field } } }";
const REVOKE: &str =
    "mutation($id: ID!) { apiKeyRevoke(id: $id) { apiKey { id revokedAt } userErrors { code field } } }";
const LIST: &str = "{ me { apiKeys { id name prefix scopes createdAt lastUsedAt expiresAt revokedAt } } }";
const ORDERS: &str = "{ me { id orders { totalCount } } }";

struct Key {
    id: String,
    secret: String,
}

async fn create(app: &TestApp, account: &Account, input: Value) -> Value {
    app.query(Some(&account.token), CREATE, json!({ "input": input })).await["apiKeyCreate"].take()
}

async fn make(app: &TestApp, account: &Account, scopes: &[&str]) -> Key {
    let made = create(app, account, json!({ "name": "Machine", "scopes": scopes })).await;
    assert_eq!(made["userErrors"], json!([]), "{made}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Key { id: text(&made["apiKey"]["id"]), secret: text(&made["secret"]) }
}

async fn revoke(app: &TestApp, account: &Account, id: &str) -> Value {
    app.query(Some(&account.token), REVOKE, json!({ "id": id })).await["apiKeyRevoke"].take()
}

/// The code and the words of the first top-level error.
async fn refusal(app: &TestApp, token: &str, query: &str, variables: Value) -> (String, String) {
    let answer = app.answer(Some(token), query, variables).await;
    let error = &answer["errors"][0];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("not refused: {answer}")).to_owned();
    (text(&error["extensions"]["code"]), text(&error["message"]))
}

async fn is_void(app: &TestApp, token: &str) -> bool {
    app.answer(Some(token), ORDERS, json!({})).await["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
}

#[actix_rt::test]
async fn a_key_is_shown_once_acts_for_its_user_and_its_use_is_recorded() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let expires_at = now().plus_millis(3_600_000).to_string();
    let input = json!({ "name": "Warehouse", "scopes": ["ORDERS_READ", "ACCOUNT_READ"], "expiresAt": expires_at });
    let made = create(&app, &account, input).await;
    let (key, secret) = (&made["apiKey"], made["secret"].as_str().unwrap());
    assert_eq!((&key["name"], &key["scopes"]), (&json!("Warehouse"), &json!(["ACCOUNT_READ", "ORDERS_READ"])));
    assert_eq!(
        (&key["expiresAt"], &key["lastUsedAt"], &key["revokedAt"]),
        (&json!(expires_at), &Value::Null, &Value::Null)
    );
    let prefix = key["prefix"].as_str().unwrap();
    assert!(secret.starts_with(prefix) && prefix.starts_with("souk_") && secret.len() > prefix.len() + 40, "{made}");

    let listed = app.query(Some(&account.token), LIST, json!({})).await;
    assert_eq!(listed["me"]["apiKeys"], json!([key]));
    assert!(!listed.to_string().contains(&secret[prefix.len()..]));

    let me = app.query(Some(secret), "{ me { id email orders { totalCount } } }", json!({})).await;
    assert_eq!(me["me"], json!({ "id": account.id, "email": account.email, "orders": { "totalCount": 0 } }));
    let used = eventually("the use is recorded", async || {
        let listed = app.query(Some(&account.token), LIST, json!({})).await;
        listed["me"]["apiKeys"][0]["lastUsedAt"].as_str().map(str::to_owned)
    })
    .await;
    let used: Timestamp = used.parse().unwrap();
    assert!((0..60_000).contains(&now().millis_since(used)), "{used}");
}

#[actix_rt::test]
async fn a_key_serves_sockets_and_event_streams_too_and_a_revoked_one_closes_them() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let account = app.sign_up().await;
    let key = make(&app, &account, &["ORDERS_WRITE"]).await;
    let placed = app.query(Some(&key.secret), ORDER_PLACE, place_variables("one", &[(&product, 1)], 10_000)).await;
    assert_eq!(placed["orderPlace"]["order"]["status"], "CONFIRMED", "{placed}");
    let follow = "subscription($id: ID!) { orderUpdated(id: $id, after: 0) { event { status } } }";
    let variables = json!({ "id": placed["orderPlace"]["order"]["id"] });
    let mut socket = Socket::connect(app.public, Some(&key.secret)).await;
    let mut by_header = Socket::connect_by_header(app.public, &key.secret).await;
    let followed = socket.subscribe(follow, variables.clone()).await;
    assert_eq!(socket.data_of(&followed).await["orderUpdated"]["event"]["status"], "PENDING");
    let asked = by_header.subscribe(ORDERS, json!({})).await;
    assert_eq!(by_header.data_of(&asked).await["me"]["id"], json!(account.id));
    let stream = app.http.post(app.url("/graphql")).header("accept", "text/event-stream").bearer_auth(&key.secret);
    let stream = stream.json(&json!({ "query": follow, "variables": variables }));
    let mut events = Events::of(stream.send().await.unwrap());
    assert_eq!(events.data().await.1["orderUpdated"]["event"]["status"], "PENDING");

    let revoked = revoke(&app, &account, &key.id).await;
    assert!(revoked["apiKey"]["revokedAt"].is_string(), "{revoked}");
    assert!(is_void(&app, &key.secret).await);
    assert_eq!(socket.close_code().await, Some(4403));
    assert_eq!(by_header.close_code().await, Some(4403));
    let mut last = events.next().await.unwrap();
    while last.data["errors"].is_null() {
        last = events.next().await.expect("an end that says why");
    }
    assert_eq!(last.data["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    let again = revoke(&app, &account, &key.id).await;
    assert_eq!(again["apiKey"], revoked["apiKey"], "again changes nothing");
    // Of two keys only the one that was revoked.
    let other = make(&app, &account, &["ORDERS_READ"]).await;
    assert!(!is_void(&app, &other.secret).await);
}

#[actix_rt::test]
async fn a_key_that_another_process_has_revoked_closes_its_socket() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let key = make(&app, &account, &["ORDERS_READ"]).await;
    let mut socket = Socket::connect(app.public, Some(&key.secret)).await;
    app.stores.api_keys.revoke_api_key(key.id.parse().unwrap(), None, now()).await.unwrap().unwrap();
    assert_eq!(socket.close_code().await, Some(4403));
    eventually("requests are refused too", async || is_void(&app, &key.secret).await.then_some(())).await;
}

#[actix_rt::test]
async fn a_key_ends_at_its_time() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let expires_at = now().plus_millis(1_500).to_string();
    let made =
        create(&app, &account, json!({ "name": "Brief", "scopes": ["ORDERS_READ"], "expiresAt": expires_at })).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(!is_void(&app, secret).await);
    let mut socket = Socket::connect(app.public, Some(secret)).await;
    assert_eq!(socket.close_code().await, Some(4403));
    assert!(now() >= expires_at.parse().unwrap());
    assert!(is_void(&app, secret).await);
}

#[actix_rt::test]
async fn a_key_does_what_its_scopes_name_and_is_told_which_it_lacks() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let account = app.sign_up().await;
    let placed = app.place(&account, &unique("key"), &[(&product, 1)], 10_000).await;
    let order = placed["order"]["id"].as_str().unwrap();
    let reads_orders = make(&app, &account, &["ORDERS_READ"]).await.secret;
    let reads_account = make(&app, &account, &["ACCOUNT_READ"]).await.secret;
    let place = place_variables("by key", &[(&product, 1)], 0);
    let rename = json!({ "input": { "name": "By Key" } });
    let rename_query =
        "mutation($input: UserUpdateInput!) { userUpdate(input: $input) { user { name } userErrors { code } } }";
    let of_order = "query($id: ID!) { node(id: $id) { id } }";
    let customer = format!("{{ order(id: \"{order}\") {{ customer {{ id email }} }} }}");
    for (key, query, variables, lacks) in [
        (&reads_orders, ORDER_PLACE, place.clone(), "ORDERS_WRITE"),
        (&reads_orders, "{ me { email } }", json!({}), "ACCOUNT_READ"),
        (&reads_orders, customer.as_str(), json!({}), "ACCOUNT_READ"),
        (&reads_orders, rename_query, rename.clone(), "ACCOUNT_WRITE"),
        (&reads_account, "{ me { orders { totalCount } } }", json!({}), "ORDERS_READ"),
        (&reads_account, of_order, json!({ "id": order }), "ORDERS_READ"),
        (&reads_account, rename_query, rename.clone(), "ACCOUNT_WRITE"),
    ] {
        let (code, message) = refusal(&app, key, query, variables).await;
        assert_eq!((code.as_str(), message), ("FORBIDDEN", format!("the API key lacks the scope {lacks}")), "{query}");
    }
    // What is everybody's is also a key's.
    let public = format!("{{ products {{ totalCount }} node(id: \"{product}\") {{ id }} me {{ id }} }}");
    let seen = app.query(Some(&reads_orders), &public, json!({})).await;
    assert_eq!(seen["node"]["id"], json!(product));

    // Who may write may read the same.
    let writes = make(&app, &account, &["ORDERS_WRITE", "ACCOUNT_WRITE"]).await.secret;
    let by_key = app.query(Some(&writes), ORDER_PLACE, place).await;
    assert_eq!(by_key["orderPlace"]["replayed"], false, "{by_key}");
    let renamed = app.query(Some(&writes), rename_query, rename).await;
    assert_eq!(renamed["userUpdate"]["user"]["name"], "By Key");
    let subscription = "subscription { notificationReceived { id } }";
    let mut socket = Socket::connect(app.public, Some(&reads_orders)).await;
    let refused = socket.subscribe(subscription, json!({})).await;
    let message = socket.next_of(&refused).await.unwrap().to_string();
    assert!(message.contains("the API key lacks the scope ACCOUNT_READ") && message.contains("FORBIDDEN"), "{message}");
}

#[actix_rt::test]
async fn what_is_a_persons_own_business_is_done_by_no_key() {
    let app = spawn_app().await;
    let admin = app.account(Role::Admin).await;
    let scopes =
        ["ACCOUNT_READ", "ACCOUNT_WRITE", "ORDERS_READ", "ORDERS_WRITE", "CATALOGUE_WRITE", "CAMPAIGNS", "OPERATIONS"];
    let key = make(&app, &admin, &scopes).await;
    let password = format!("(password: \"{PASSWORD}\")");
    for operation in [
        format!(
            r#"mutation {{ passwordChange(currentPassword: "{PASSWORD}", newPassword: "another horse") {{ userErrors {{ code }} }} }}"#
        ),
        format!("mutation {{ accountDelete{password} {{ deleted }} }}"),
        format!("mutation {{ accountExport{password} {{ export }} }}"),
        format!(r#"mutation {{ signOut(refreshToken: "{}") {{ signedOut }} }}"#, admin.refresh_token),
        format!(r#"mutation {{ userRoleUpdate(id: "{}", role: CUSTOMER) {{ user {{ id }} }} }}"#, admin.id),
        format!(r#"mutation {{ apiKeyRevoke(id: "{}") {{ apiKey {{ id }} }} }}"#, key.id),
        r#"mutation { apiKeyCreate(input: { name: "Second", scopes: [ORDERS_READ] }) { secret } }"#.into(),
        "mutation { emailVerificationResend { user { id } } }".into(),
        "{ me { sessions { id } } }".into(),
        "{ me { apiKeys { id } } }".into(),
    ] {
        let (code, message) = refusal(&app, &key.secret, &operation, json!({})).await;
        let expected = ("FORBIDDEN", "this is not done with an API key: sign in");
        assert_eq!((code.as_str(), message.as_str()), expected, "{operation}");
    }
    let listed = app.query(Some(&admin.token), LIST, json!({})).await;
    assert_eq!(listed["me"]["apiKeys"].as_array().unwrap().len(), 1, "nothing was done");
    assert!(app.query(Some(&key.secret), "{ supervision { name } users { totalCount } }", json!({})).await.is_object());
}

#[actix_rt::test]
async fn a_customers_key_does_no_work_of_staff() {
    let app = spawn_app().await;
    let (account, staff) = (app.sign_up().await, app.staff().await);
    for scope in ["CATALOGUE_WRITE", "CAMPAIGNS", "OPERATIONS"] {
        let refused = create(&app, &account, json!({ "name": "Staff", "scopes": ["ORDERS_READ", scope] })).await;
        let error = &refused["userErrors"][0];
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!("INVALID_INPUT"), &json!(["input", "scopes"])),
            "{refused}"
        );
        assert_eq!((&refused["apiKey"], &refused["secret"]), (&Value::Null, &Value::Null));
    }
    let key = make(&app, &account, &["ORDERS_WRITE"]).await.secret;
    let ship = r#"mutation { orderShip(id: "ord_00000000000000000000000001") { order { id } } }"#;
    for query in ["{ orders { totalCount } }", ship] {
        assert_eq!(refusal(&app, &key, query, json!({})).await, ("FORBIDDEN".into(), "you may not do this".into()));
    }
    // Staff's own key does, within its scopes.
    let key = make(&app, &staff, &["CATALOGUE_WRITE"]).await.secret;
    let create_product = "mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } } }";
    let price = json!({ "minorUnits": 1, "currency": "EUR" });
    let input = json!({ "sku": unique("SKU"), "name": "Lamp", "category": "Tests", "price": price, "available": 1 });
    let made = app.query(Some(&key), create_product, json!({ "input": input })).await;
    assert!(made["productCreate"]["product"]["id"].is_string(), "{made}");
    let (code, message) = refusal(&app, &key, "{ orders { totalCount } }", json!({})).await;
    assert_eq!((code.as_str(), message.as_str()), ("FORBIDDEN", "the API key lacks the scope ORDERS_READ"));
}

#[actix_rt::test]
async fn keys_are_their_users_and_staffs_to_see_and_revoke() {
    let app = spawn_app().await;
    let (account, stranger, staff) = (app.sign_up().await, app.sign_up().await, app.staff().await);
    let key = make(&app, &account, &["ORDERS_READ"]).await;
    let foreign = revoke(&app, &stranger, &key.id).await;
    let missing = revoke(&app, &stranger, "key_00000000000000000000000001").await;
    let malformed = revoke(&app, &stranger, "nonsense").await;
    let not_found = json!({ "apiKey": null, "userErrors": [{ "code": "NOT_FOUND", "field": ["id"] }] });
    assert_eq!([foreign, missing, malformed], [not_found.clone(), not_found.clone(), not_found]);
    let of_user = "query($id: ID!) { user(id: $id) { apiKeys { id } } }";
    let hidden = app.query(Some(&stranger.token), of_user, json!({ "id": account.id })).await;
    assert_eq!(hidden["user"], Value::Null);
    let seen = app.query(Some(&staff.token), of_user, json!({ "id": account.id })).await;
    assert_eq!(seen["user"]["apiKeys"], json!([{ "id": key.id }]));
    assert!(!is_void(&app, &key.secret).await);
    assert!(revoke(&app, &staff, &key.id).await["apiKey"]["revokedAt"].is_string());
    assert!(is_void(&app, &key.secret).await);
}

#[actix_rt::test]
async fn a_user_has_at_most_twenty_keys_in_use() {
    let app = spawn_app().await;
    let account = app.sign_up().await;
    let first = make(&app, &account, &["ORDERS_READ"]).await;
    for _ in 1..20 {
        make(&app, &account, &["ORDERS_READ"]).await;
    }
    let input = json!({ "name": "One more", "scopes": ["ORDERS_READ"] });
    let refused = create(&app, &account, input.clone()).await;
    let error = &refused["userErrors"][0];
    assert_eq!((&error["code"], &error["field"]), (&json!("INVALID_INPUT"), &Value::Null), "{refused}");
    revoke(&app, &account, &first.id).await;
    assert!(create(&app, &account, input).await["secret"].is_string());
}

#[actix_rt::test]
async fn a_reset_another_role_and_the_end_of_the_account_end_its_keys_and_a_changed_password_does_not() {
    let app = spawn_app().await;
    let admin = app.account(Role::Admin).await;
    let mut account = app.sign_up().await;
    let key = make(&app, &account, &["ORDERS_READ"]).await;
    let change = format!(
        r#"mutation {{ passwordChange(currentPassword: "{PASSWORD}", newPassword: "another horse") {{
            session {{ accessToken refreshToken }} }} }}"#
    );
    let changed = app.query(Some(&account.token), &change, json!({})).await["passwordChange"]["session"].take();
    let everywhere = "mutation($token: String!) { signOut(refreshToken: $token, everywhere: true) { signedOut } }";
    let token = changed["accessToken"].as_str().unwrap();
    app.query(Some(token), everywhere, json!({ "token": changed["refreshToken"] })).await;
    assert!(is_void(&app, token).await && !is_void(&app, &key.secret).await, "machines go on");

    let mut socket = Socket::connect(app.public, Some(&key.secret)).await;
    let request = "mutation($email: String!) { passwordResetRequest(email: $email) { accepted } }";
    app.query(None, request, json!({ "email": account.email })).await;
    let token = MailLinks::of(&app).await.newest(&account, MailRequestKind::PasswordReset).await;
    let reset = "mutation($token: String!) { passwordReset(token: $token, newPassword: \"a third horse\") {
        session { accessToken } userErrors { code } } }";
    let reset = app.query(None, reset, json!({ "token": token })).await;
    assert!(is_void(&app, &key.secret).await);
    assert_eq!(socket.close_code().await, Some(4403));

    account.token = reset["passwordReset"]["session"]["accessToken"].as_str().unwrap().to_owned();
    let key = make(&app, &account, &["ORDERS_READ"]).await;
    let role = "mutation($id: ID!, $role: Role!) { userRoleUpdate(id: $id, role: $role) { user { role } } }";
    app.query(Some(&admin.token), role, json!({ "id": account.id, "role": "STAFF" })).await;
    assert!(is_void(&app, &key.secret).await);

    let account = app.sign_in(&account.email, "a third horse").await;
    let key = make(&app, &account, &["OPERATIONS"]).await;
    let export = r#"mutation { accountExport(password: "a third horse") { export } }"#;
    let exported = app.query(Some(&account.token), export, json!({})).await;
    let text = exported["accountExport"]["export"].as_str().unwrap();
    let kept: Value = serde_json::from_str(text).unwrap();
    assert_eq!(kept["apiKeys"].as_array().unwrap().len(), 3);
    assert_eq!((&kept["apiKeys"][0]["id"], &kept["apiKeys"][0]["scopes"]), (&json!(key.id), &json!(["OPERATIONS"])));
    assert!(kept["apiKeys"][1]["revokedAt"].is_string());
    assert!(!text.contains(&key.secret[key.secret.len() - 43..]));
    let delete = r#"mutation { accountDelete(password: "a third horse") { deleted } }"#;
    assert_eq!(app.query(Some(&account.token), delete, json!({})).await["accountDelete"]["deleted"], true);
    assert!(is_void(&app, &key.secret).await);
}

#[actix_rt::test]
async fn a_key_that_is_none_is_refused_like_a_bad_token_and_guesses_are_limited() {
    let app = spawn_app_with(|config| config.limits.sign_in_per_address_per_minute = 10).await;
    let account = app.sign_up().await;
    let key = make(&app, &account, &["ORDERS_READ"]).await;
    let (start, secret) = key.secret.split_at(key.secret.len() - 43);
    let wrong = if secret.starts_with('A') { secret.replacen('A', "B", 1) } else { format!("A{}", &secret[1..]) };
    let guesses =
        [format!("{start}{wrong}"), format!("souk_00000000000000000000000001_{secret}"), start.into(), "souk_".into()];
    for guess in &guesses {
        let (code, message) = refusal(&app, guess, ORDERS, json!({})).await;
        assert_eq!(code, "UNAUTHENTICATED", "{guess}");
        assert!(!message.contains(guess));
    }
    let ask = async || {
        let body = json!({ "query": ORDERS });
        let request = app.http.post(app.url("/graphql")).header("accept", "application/json").json(&body);
        request.bearer_auth(&guesses[0]).send().await.unwrap()
    };
    let mut answer = ask().await;
    for _ in 0..10 {
        answer = ask().await;
    }
    assert_eq!(answer.status(), 429);
    let retry_after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "RATE_LIMITED", "{answer}");
    // What has served before is served all the same, also when all copies are forgotten; what nobody knows is not looked up.
    app.query(Some(&key.secret), ORDERS, json!({})).await;
    let other = app.sign_up().await;
    let everywhere = "mutation { signOut(refreshToken: \"\", everywhere: true) { signedOut } }";
    app.query(Some(&other.token), everywhere, json!({})).await;
    app.query(Some(&key.secret), ORDERS, json!({})).await;
    let invented = format!("souk_00000000000000000000000002_{secret}");
    assert_eq!(refusal(&app, &invented, ORDERS, json!({})).await.0, "RATE_LIMITED");
    let good = tokio::time::timeout(Duration::from_secs(20), Socket::connect(app.public, Some(&key.secret)));
    assert!(good.await.is_ok());
}
