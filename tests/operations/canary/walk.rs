//! What users and staff do with marked passwords, tokens and addresses, and what goes wrong meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::bad_input;
use super::markers::Markers;
use crate::support::client::unique;
use crate::support::process::{ShopProcess, run};
use crate::support::scrape::Scrape;
use crate::support::sink::{Answer, Sink, Turn};
use crate::support::{Client, Socket, eventually};

/// In addresses whose mails are refused for good, and in those whose mails are first refused for now.
const REFUSED: &str = "refused";
const SLOW: &str = "slow";

/// An account that is signed in, of marked texts.
#[derive(Clone)]
pub struct User {
    id: String,
    pub email: String,
    pub password: String,
    pub token: String,
    pub refresh: String,
}

pub struct Walk {
    shop: ShopProcess,
    client: Client,
    sink: Sink,
    markers: Markers,
    staff: User,
    pub product: String,
    errors: String,
    headers: String,
    printed: String,
    metrics: String,
}

impl Walk {
    /// A shop with an admin and a product, that logs and traces all it can and takes failure switches.
    pub async fn begin(data: &Path, collector: &str, settings: &[(&str, &str)]) -> Self {
        let slowed = AtomicBool::new(false);
        let sink = Sink::scripted(move |turn| match turn {
            Turn::Recipient(address) if address.contains(REFUSED) => quoting("550 5.1.1", address),
            Turn::Recipient(address) if address.contains(SLOW) && !slowed.swap(true, Ordering::SeqCst) => {
                quoting("451 4.7.1", address)
            }
            _ => Answer::Usual,
        })
        .await;
        let uri = sink.uri();
        let mut settings = settings.to_vec();
        settings.extend([
            ("SOUK__AUTH__BCRYPT_COST", "4"),
            ("SOUK__FAULTS__ENABLED", "true"),
            ("SOUK__LOG__FORMAT", "json"),
            ("SOUK__LOG__LEVEL", "debug"),
            ("SOUK__MAIL__KIND", "smtp"),
            ("SOUK__MAIL__URI", &uri),
            ("SOUK__NOTIFICATIONS__BACKOFF_BASE_MS", "10"),
            ("SOUK__SUPERVISION__INTENSITY", "1000"),
            ("SOUK__TRACES__OTLP_ENDPOINT", collector),
        ]);
        let mut markers = Markers::default();
        let (email, password) = marked("staff", &mut markers);
        let create = ["admin", "create", "--email", &email, "--name", "Staff", "--password-stdin"];
        let (code, stdout, stderr) = run(data, &create, &settings, &password);
        assert_eq!(code, 0, "{stderr}");
        let (_, _, taken) = run(data, &create, &settings, &password);
        let shop = ShopProcess::start(data, &settings);
        let client = shop.client();
        let nobody = User { id: String::new(), email, password, token: String::new(), refresh: String::new() };
        let mut walk = Self {
            shop,
            client,
            sink,
            markers,
            staff: nobody.clone(),
            product: String::new(),
            errors: String::new(),
            headers: String::new(),
            printed: stdout + &stderr + &taken,
            metrics: String::new(),
        };
        walk.staff = walk.sign_in(&nobody.email, &nobody.password).await;
        let create = "mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } } }";
        let price = json!({ "minorUnits": 1250, "currency": "EUR" });
        let product = json!({ "sku": "L-1", "name": "Lamp", "category": "Lamps", "price": price, "available": 100 });
        let made = walk.as_staff(create, json!({ "input": product })).await;
        walk.product = text(&made["productCreate"]["product"]["id"]);
        walk
    }

    /// Of an event that cannot be read: it holds an address, where a user's id belongs too.
    pub fn body_of_nonsense(&mut self) -> Value {
        let (email, _) = marked("nonsense", &mut self.markers);
        json!({ "customer_id": email, "order_id": [email], "email": email })
    }

    pub async fn go(&mut self) {
        let user = self.signs_up_in_and_out().await;
        let user = self.resets_a_password(user).await;
        self.verifies_an_address(&user).await;
        self.orders_and_reads(&user).await;
        self.lets_a_machine_in(&user).await;
        self.gets_a_campaign_and_ends_them(&user).await;
        self.sends_what_is_refused(&user).await;
        self.gets_no_mails().await;
        self.goes_on_while_actors_panic(&user).await;
        self.leaves(user).await;
    }

    async fn signs_up_in_and_out(&mut self) -> User {
        let (email, password) = marked("owner", &mut self.markers);
        let user = self.sign_up(&email, &password).await;
        let (unknown, wrong) = marked("unknown", &mut self.markers);
        for (email, password) in [(&email, &wrong), (&unknown, &wrong), (&unknown, &password)] {
            assert_eq!(self.try_sign_in(email, password).await["session"], Value::Null);
        }
        assert_ne!(self.try_sign_up(&email.to_uppercase(), &wrong).await["userErrors"], json!([]), "it is taken");
        let other = self.sign_in(&email, &password).await;
        let refreshed = self.ask(None, REFRESH, json!({ "token": other.refresh })).await;
        let refreshed = self.session(&refreshed["tokenRefresh"], &password);
        let late = self.ask(None, REFRESH, json!({ "token": other.refresh })).await;
        assert_eq!(late["tokenRefresh"]["session"], Value::Null);
        let sign_out =
            "mutation($token: String!) { signOut(refreshToken: $token) { signedOut userErrors { message } } }";
        self.ask(Some(&refreshed.token), sign_out, json!({ "token": refreshed.refresh })).await;
        self.ask(Some(&refreshed.token), "{ me { email } }", json!({})).await;
        user
    }

    async fn resets_a_password(&mut self, user: User) -> User {
        let request =
            "mutation($email: String!) { passwordResetRequest(email: $email) { accepted userErrors { message } } }";
        self.ask(None, request, json!({ "email": user.email })).await;
        let (unknown, weak) = marked("unknown", &mut self.markers);
        self.ask(None, request, json!({ "email": unknown })).await;
        let token = self.mailed_token(&user.email, "/mail/reset").await;
        let (_, password) = marked("owner again", &mut self.markers);
        let mut reset = Value::Null;
        // Too long, good, and with a token that is used up.
        for new in [weak.repeat(10), password.clone(), weak] {
            let answer = self.ask(None, RESET, json!({ "token": token, "new": new })).await;
            if answer["passwordReset"]["session"].is_object() {
                reset = answer;
            }
        }
        let page = self.client.http.post(self.client.url(&format!("/mail/reset?token={token}")));
        self.send(page.form(&[("password", &password)])).await;
        let reset = self.session(&reset["passwordReset"], &password);
        let (_, changed) = marked("owner changed", &mut self.markers);
        for (old, new) in [(&changed, &password), (&password, &changed)] {
            let answer = self.ask(Some(&reset.token), CHANGE, json!({ "old": old, "new": new })).await;
            if answer["passwordChange"]["session"].is_object() {
                return self.session(&answer["passwordChange"], new);
            }
        }
        panic!("the password was not changed");
    }

    async fn verifies_an_address(&mut self, user: &User) {
        let resend = "mutation { emailVerificationResend { userErrors { message } } }";
        self.ask(Some(&user.token), resend, json!({})).await;
        let old = self.mailed_token(&user.email, "/mail/verify").await;
        let new = self.mailed_token_after(&user.email, "/mail/verify", &old).await;
        let verify = "mutation($token: String!) { emailVerify(token: $token) { userErrors { message } } }";
        self.ask(None, verify, json!({ "token": old })).await;
        let url = self.client.url(&format!("/mail/verify?token={new}"));
        for request in [self.client.http.get(&url), self.client.http.post(&url), self.client.http.post(&url)] {
            self.send(request).await;
        }
        let me = self.ask(Some(&user.token), "{ me { emailVerified } }", json!({})).await;
        assert_eq!(me["me"]["emailVerified"], true);
    }

    async fn orders_and_reads(&mut self, user: &User) {
        let place =
            "mutation($input: OrderPlaceInput!) { orderPlace(input: $input) { order { id } userErrors { message } } }";
        for (key, quantity) in [("first", 1), ("second", 10_000)] {
            let lines = json!([{ "productId": self.product, "quantity": quantity }]);
            let order = json!({ "idempotencyKey": key, "lines": lines, "waitMs": 10_000 });
            self.ask(Some(&user.token), place, json!({ "input": order })).await;
        }
        self.mail_to(&user.email, "Lamp").await;
        self.ask(None, "{ products(first: 3, where: { search: \"lamp\" }) { nodes { id } } }", json!({})).await;
        let search = "query($search: String!) { users(search: $search) { nodes { email } } }";
        let found = self.as_staff(search, json!({ "search": user.email })).await;
        assert_eq!(found["users"]["nodes"][0]["email"], json!(user.email));
        // The other transports.
        let mut socket = Socket::connect(self.shop.public, Some(&user.token)).await;
        let updates = socket.subscribe("subscription { orderUpdates { cursor } }", json!({})).await;
        let wrong = socket.subscribe(SIGN_UP_WATCHED, json!({ "password": user.password })).await;
        self.errors += &format!("{:?}", socket.next_of(&wrong).await);
        socket.complete(&updates).await;
        let mut refused = Socket::open(self.shop.public).await;
        let payload = json!({ "Authorization": format!("Bearer {}x", user.token) });
        refused.send(&json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(refused.close_code().await, Some(4403));
    }

    /// An API key is used over each transport, for what it may not do, changed by a character, and after its end.
    async fn lets_a_machine_in(&mut self, user: &User) {
        let input = json!({ "name": "a machine", "scopes": ["ACCOUNT_READ", "ORDERS_READ"] });
        let made = self.ask(Some(&user.token), CREATE_KEY, json!({ "input": input })).await["apiKeyCreate"].take();
        let key = text(&made["secret"]);
        let me = self.ask(Some(&key), "{ me { email } }", json!({})).await;
        assert_eq!(me["me"]["email"], json!(user.email));
        let mut wrong = key.clone();
        wrong.pop();
        for key in [&wrong, &key] {
            self.markers.add_secret("an API key", key.as_str());
            let change = json!({ "old": user.password, "new": user.password });
            self.ask(Some(key), CHANGE, change).await;
            let in_path = self.client.http.get(self.client.url(&format!("/graphql?query={{me{{id}}}}&key={key}")));
            self.send(in_path.bearer_auth(key)).await;
        }
        let mut socket = Socket::connect(self.shop.public, Some(&key)).await;
        let updates = socket.subscribe("subscription { orderUpdates { cursor } }", json!({})).await;
        socket.complete(&updates).await;
        let revoke = "mutation($id: ID!) { apiKeyRevoke(id: $id) { userErrors { message } } }";
        self.ask(Some(&user.token), revoke, json!({ "id": made["apiKey"]["id"] })).await;
        let refused = self.ask(Some(&key), "{ me { email } }", json!({})).await;
        assert!(refused["me"]["email"].is_null());
    }

    async fn gets_a_campaign_and_ends_them(&mut self, user: &User) {
        let prefer = "mutation { preferencesUpdate(input: { promotions: true }) { userErrors { message } } }";
        self.ask(Some(&user.token), prefer, json!({})).await;
        let launch =
            "mutation($input: CampaignLaunchInput!) { campaignLaunch(input: $input) { userErrors { message } } }";
        let campaign = json!({ "idempotencyKey": "once", "subject": "Half price", "message": "Lamps." });
        self.as_staff(launch, json!({ "input": campaign })).await;
        let token = self.mailed_token(&user.email, "/mail/unsubscribe").await;
        let url = self.client.url(&format!("/mail/unsubscribe?token={token}"));
        for request in [self.client.http.get(&url), self.client.http.post(&url)] {
            self.send(request).await;
        }
        let end = "mutation($token: String!) { unsubscribe(token: $token) { unsubscribed userErrors { message } } }";
        for token in [token.clone(), token + "x"] {
            self.ask(None, end, json!({ "token": token })).await;
        }
    }

    /// Documents, variables, bodies, paths and headers that are refused, each with something secret in it.
    async fn sends_what_is_refused(&mut self, user: &User) {
        let (email, password) = (user.email.as_str(), user.password.as_str());
        let token = user.token.as_str();
        for document in bad_input::documents(user) {
            self.ask(Some(token), &document, json!({})).await;
        }
        for variables in bad_input::variables_of_a_sign_in(user) {
            self.ask(Some(token), SIGN_IN, variables).await;
        }
        for (email, password) in [(format!("<{email}>"), password.to_owned()), (email.to_owned(), password.repeat(9))] {
            self.try_sign_up(&email, &password).await;
        }
        for request in bad_input::requests(user, &self.client) {
            self.send(request).await;
        }
        let faults = format!("http://{}/faults/{email}/{password}", self.shop.admin);
        self.send(self.client.http.get(faults)).await;
    }

    /// A server that quotes the address in its refusals: one mail is dead at once, another is sent later.
    async fn gets_no_mails(&mut self) {
        for kind in [REFUSED, SLOW] {
            let (email, password) = marked(kind, &mut self.markers);
            self.sign_up(&email, &password).await;
            if kind == SLOW {
                self.mailed_token(&email, "/mail/verify").await;
            }
        }
        self.sink.close_connections();
        self.metrics += &Scrape::of(self.shop.admin).await.text;
    }

    async fn goes_on_while_actors_panic(&mut self, user: &User) {
        let tree = "{ supervision { name children { name children { name children { name } } } } }";
        let mut waiting = vec![self.as_staff(tree, json!({})).await["supervision"].take()];
        let mut struck = 0;
        while let Some(actor) = waiting.pop() {
            let url = format!("http://{}/faults/{}/panic", self.shop.admin, actor["name"].as_str().unwrap());
            waiting.extend(actor["children"].as_array().cloned().unwrap_or_default());
            let status = self.send(self.client.http.post(url)).await;
            struck += usize::from(status == 202);
            // A question is in hand, or an event on its way, when one of them panics.
            let (email, password) = marked("while actors panic", &mut self.markers);
            self.try_sign_up(&email, &password).await;
            self.try_sign_in(&user.email, &user.password).await;
        }
        assert!(struck >= 10, "{struck} actors took a fault");
        eventually("the actors have panicked and are back", async || {
            let restarts = restarts(&self.client.answer(Some(&self.staff.token), RESTARTS, json!({})).await);
            (restarts >= struck as i64).then_some(())
        })
        .await;
    }

    async fn leaves(&mut self, user: User) {
        // Sessions may have been looked up in vain while actors were down.
        let user = self.sign_in(&user.email, &user.password).await;
        let (_, wrong) = marked("wrong", &mut self.markers);
        let export =
            "mutation($password: String!) { accountExport(password: $password) { export userErrors { message } } }";
        let delete =
            "mutation($password: String!) { accountDelete(password: $password) { deleted userErrors { message } } }";
        for (what, password) in [(export, &wrong), (export, &user.password), (delete, &wrong), (delete, &user.password)]
        {
            self.ask(Some(&user.token), what, json!({ "password": password })).await;
        }
        assert_eq!(self.try_sign_in(&user.email, &user.password).await["session"], Value::Null);
        let all = "{ users(first: 100) { nodes { id email } } }";
        let users = self.as_staff(all, json!({})).await.to_string();
        assert!(!users.contains(&user.id) && !users.contains(&user.email), "{users}");
    }

    /// What is told about what failed for good, once all of it has.
    pub async fn dead_letters(&mut self) -> String {
        let query = "{ deadLetters(first: 100) { nodes { id source reason key headers { name value } } } }";
        let client = self.client.clone();
        let token = self.staff.token.clone();
        eventually("an event and a mail are dead letters", async || {
            let letters = client.answer(Some(&token), query, json!({})).await["data"]["deadLetters"]["nodes"].take();
            let sources: Vec<&Value> = letters.as_array()?.iter().map(|letter| &letter["source"]).collect();
            (sources.contains(&&json!("notifications")) && sources.iter().any(|source| **source == "inventory"))
                .then(|| letters.to_string())
        })
        .await
    }

    pub async fn panics(&mut self) -> String {
        self.as_staff(RESTARTS, json!({})).await.to_string()
    }

    pub async fn metrics(&mut self) -> String {
        self.metrics.clone() + &Scrape::of(self.shop.admin).await.text
    }

    pub fn errors(&self) -> String {
        self.errors.clone()
    }

    pub fn headers(&self) -> String {
        self.headers.clone()
    }

    pub fn printed(&self) -> String {
        self.printed.clone()
    }

    /// The log, and what must not be in it.
    pub fn stop(self) -> (String, Markers) {
        self.shop.signal("TERM");
        let exit = self.shop.wait(Duration::from_secs(60));
        assert!(exit.status.success(), "{exit:?}");
        (exit.stderr, self.markers)
    }

    async fn sign_up(&mut self, email: &str, password: &str) -> User {
        let payload = self.try_sign_up(email, password).await;
        self.session(&payload, password)
    }

    async fn try_sign_up(&mut self, email: &str, password: &str) -> Value {
        let input = json!({ "email": email, "name": "A Name", "password": password });
        self.ask(None, SIGN_UP, json!({ "input": input })).await["signUp"].take()
    }

    async fn sign_in(&mut self, email: &str, password: &str) -> User {
        let payload = self.try_sign_in(email, password).await;
        self.session(&payload, password)
    }

    async fn try_sign_in(&mut self, email: &str, password: &str) -> Value {
        let input = json!({ "email": email, "password": password });
        self.ask(None, SIGN_IN, json!({ "input": input })).await["signIn"].take()
    }

    /// The session of a payload, with its tokens marked.
    fn session(&mut self, payload: &Value, password: &str) -> User {
        let session = &payload["session"];
        assert!(session.is_object(), "{payload}");
        let (token, refresh) = (text(&session["accessToken"]), text(&session["refreshToken"]));
        // A part of a token that is a secret by itself: everybody's tokens begin alike.
        self.markers.add_secret("an access token's signature", token.rsplit('.').next().unwrap());
        self.markers.add_secret("a refresh token", &*refresh);
        let (id, email) = (text(&session["user"]["id"]), text(&session["user"]["email"]));
        User { id, email, password: password.to_owned(), token, refresh }
    }

    async fn as_staff(&mut self, query: &str, variables: Value) -> Value {
        let token = self.staff.token.clone();
        let data = self.ask(Some(&token), query, variables).await;
        assert!(!data.is_null(), "{query}: {}", self.errors);
        data
    }

    /// The data of an answer, whose errors are kept.
    async fn ask(&mut self, token: Option<&str>, query: &str, variables: Value) -> Value {
        let mut request = self.client.http.post(self.client.url("/graphql"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap();
        self.headers += &format!("{:?}\n", answer.headers());
        let mut answer: Value = answer.json().await.unwrap();
        self.note(&answer);
        answer["data"].take()
    }

    /// Sends what has no data in its answer; all of it is kept.
    async fn send(&mut self, request: RequestBuilder) -> u16 {
        let answer = request.send().await.unwrap();
        self.headers += &format!("{:?}\n", answer.headers());
        let status = answer.status().as_u16();
        self.errors += &(answer.text().await.unwrap() + "\n");
        status
    }

    fn note(&mut self, answer: &Value) {
        self.errors += &format!("{}{}\n", answer["errors"], answer["extensions"]);
        for payload in answer["data"].as_object().into_iter().flat_map(|roots| roots.values()) {
            self.errors += &format!("{}\n", payload["userErrors"]);
        }
    }

    /// A mail with these words, as its reader sees it.
    async fn mail_to(&self, address: &str, words: &str) -> String {
        self.mail_that(address, |mail| mail.contains(words)).await
    }

    async fn mail_that(&self, address: &str, fits: impl Fn(&str) -> bool) -> String {
        eventually("a mail comes", async || {
            let taken = self.sink.taken();
            let to_them = taken.iter().filter(|mail| mail.to.eq_ignore_ascii_case(address));
            // Lines are folded by `=` at their ends, and `=` is written so.
            let read = |content: &[u8]| String::from_utf8_lossy(content).replace("=\r\n", "").replace("=3D", "=");
            to_them.map(|mail| read(&mail.content)).find(|mail| fits(mail))
        })
        .await
    }

    async fn mailed_token(&mut self, address: &str, page: &str) -> String {
        self.mailed_token_after(address, page, "").await
    }

    /// The token of a mail's link to a page, another than one that came before; marked.
    async fn mailed_token_after(&mut self, address: &str, page: &str, before: &str) -> String {
        let link = format!("{page}?token=");
        let is_new = |mail: &str| token_after(mail, &link).is_some_and(|token| token != before);
        let mail = self.mail_that(address, is_new).await;
        let token = token_after(&mail, &link).expect("the mail was chosen by its token").to_owned();
        self.markers.add_secret(format!("a token of {page}"), &*token);
        token
    }
}

const SIGN_UP: &str = "mutation($input: SignUpInput!) { signUp(input: $input) {
    session { accessToken refreshToken user { id email } } userErrors { code message field } } }";
pub const SIGN_IN: &str = "mutation($input: SignInInput!) { signIn(input: $input) {
    session { accessToken refreshToken user { id email } } userErrors { code message field } } }";
const REFRESH: &str = "mutation($token: String!) { tokenRefresh(refreshToken: $token) {
    session { accessToken refreshToken user { id email } } userErrors { code message field } } }";
const RESET: &str = "mutation($token: String!, $new: String!) { passwordReset(token: $token, newPassword: $new) {
    session { accessToken refreshToken user { id email } } userErrors { code message field } } }";
const CHANGE: &str = "mutation($old: String!, $new: String!) {
    passwordChange(currentPassword: $old, newPassword: $new) {
        session { accessToken refreshToken user { id email } } userErrors { code message field } } }";
const CREATE_KEY: &str = "mutation($input: ApiKeyCreateInput!) {
    apiKeyCreate(input: $input) { apiKey { id } secret userErrors { code message field } } }";
/// No subscription has these.
const SIGN_UP_WATCHED: &str = "subscription($password: String!) { signUp(password: $password) { code } }";
const RESTARTS: &str = "{ supervision { ...actor children { ...actor children { ...actor children { ...actor } } } } }
    fragment actor on ActorStatus { name restarts lastPanic }";

/// An address and a password that are nowhere else. The password has characters that URLs write otherwise.
fn marked(whose: &str, markers: &mut Markers) -> (String, String) {
    let name = unique(&format!("canary-{}", whose.replace(' ', "-"))) + "x";
    let word = unique("Canary") + "x";
    markers.add_address(format!("the address of {whose}"), &*name);
    markers.add_secret(format!("the password of {whose}"), &*word);
    (format!("{name}@test.example"), word + " &%+é")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// What stands behind the link up to the first character that no token has.
fn token_after<'a>(mail: &'a str, link: &str) -> Option<&'a str> {
    let (_, rest) = mail.split_once(link)?;
    let is_other = |symbol: char| !symbol.is_ascii_alphanumeric() && !"-_".contains(symbol);
    Some(&rest[..rest.find(is_other).unwrap_or(rest.len())])
}

fn restarts(answer: &Value) -> i64 {
    let mut waiting = vec![&answer["data"]["supervision"]];
    let mut total = 0;
    while let Some(actor) = waiting.pop() {
        total += actor["restarts"].as_i64().unwrap_or(0);
        waiting.extend(actor["children"].as_array().into_iter().flatten());
    }
    total
}

/// A refusal that repeats the address, as many servers do.
fn quoting(code: &str, address: &str) -> Answer {
    let line = format!("{code} <{address}>: no mailbox {address}");
    Answer::Say(Box::leak(line.into_boxed_str()))
}
