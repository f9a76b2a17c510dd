//! What users are told: mails as files, the inbox, and what arrives live.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mail_parser::MessageParser;
use serde_json::{Value, json};
use souk::config::{MailKind, SecretUri};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::unique;
use crate::support::{Account, Socket, TestApp, eventually, spawn_app, spawn_app_with};

const INBOX: &str = "query($unread: Boolean, $first: Int, $after: Cursor) { me {
    notifications(unreadOnly: $unread, first: $first, after: $after) {
        totalCount unreadCount pageInfo { hasNextPage endCursor }
        nodes { id kind priority status subject body attempts read createdAt sentAt } } } }";
const MARK_READ: &str = "mutation($ids: [ID!], $all: Boolean) { notificationsMarkRead(ids: $ids, all: $all) {
    updatedCount userErrors { code field } } }";

async fn inbox(app: &TestApp, of: &Account, unread: bool) -> Value {
    app.query(Some(&of.token), INBOX, json!({ "unread": unread })).await["me"]["notifications"].take()
}

/// Waits for a notification with these words in its subject whose mail is settled.
async fn told(app: &TestApp, of: &Account, subject: &str) -> Value {
    eventually(&format!("told: {subject}"), async || {
        let nodes = inbox(app, of, false).await["nodes"].take();
        let found = nodes.as_array().unwrap().iter().find(|node| node["subject"].as_str().unwrap().contains(subject));
        found.filter(|node| node["status"] != "QUEUED").cloned()
    })
    .await
}

fn file_of(app: &TestApp, notification: &Value) -> PathBuf {
    app.dir.path().join("mail").join(format!("{}.eml", notification["id"].as_str().unwrap()))
}

/// The mail's recipient, text part and HTML part.
fn mail_of(app: &TestApp, notification: &Value) -> (String, String, String) {
    let bytes = std::fs::read(file_of(app, notification)).unwrap();
    let mail = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(mail.header("X-Souk-Notification").and_then(|id| id.as_text()), notification["id"].as_str());
    let to = mail.to().and_then(|to| to.first()).and_then(|to| to.address()).unwrap().to_owned();
    (to, mail.body_text(0).unwrap().into_owned(), mail.body_html(0).unwrap().into_owned())
}

#[actix_rt::test]
async fn whoever_signs_up_is_welcomed_with_a_link_that_is_kept_nowhere() {
    let app = spawn_app().await;
    let customer = app.sign_up().await;
    let welcome = told(&app, &customer, "Welcome").await;
    assert_eq!((&welcome["kind"], &welcome["priority"]), (&json!("ACCOUNT"), &json!("CRITICAL")));
    assert_eq!(
        (&welcome["status"], &welcome["attempts"], &welcome["read"]),
        (&json!("SENT"), &json!(1), &json!(false))
    );
    assert!(welcome["sentAt"].is_string());
    let (to, text, html) = mail_of(&app, &welcome);
    assert_eq!(to, customer.email);
    let link = text.lines().map(str::trim).find(|line| line.starts_with("http://")).expect("a link on its own line");
    let token = link.split_once("/mail/verify?token=").expect("the link verifies").1;
    assert!(link.starts_with(&format!("http://{}/", app.public)) && token.len() > 20, "{link}");
    assert!(html.contains("/mail/verify?token="), "{html}");
    assert!(!welcome.to_string().contains(token));
    // Nor in any file of the shop.
    for file in std::fs::read_dir(app.dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() {
            let bytes = std::fs::read(&file).unwrap();
            let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!found, "the token is in {}", file.display());
        }
    }
}

#[actix_rt::test]
async fn each_step_of_an_order_is_told_but_its_placement() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let name = app.query(None, "query($id: ID!) { product(id: $id) { name } }", json!({ "id": product })).await;
    let name = name["product"]["name"].as_str().unwrap().to_owned();
    let customer = app.sign_up().await;
    let placed = app.place(&customer, &unique("told"), &[(&product, 2)], 10_000).await;
    let (id, number) = (&placed["order"]["id"], placed["order"]["number"].as_str().unwrap());
    let confirmed = told(&app, &customer, &format!("{number} is confirmed")).await;
    assert_eq!((&confirmed["kind"], &confirmed["status"]), (&json!("ORDER_UPDATE"), &json!("SENT")));
    let (to, text, html) = mail_of(&app, &confirmed);
    assert_eq!(to, customer.email);
    for part in [&text, &html] {
        assert!(part.contains(number) && part.contains(&name), "{part}");
    }

    // What nobody wants any more is not mailed, and the inbox tells staff why.
    let off = "mutation { preferencesUpdate(input: { orderUpdates: false }) { userErrors { code } } }";
    app.query(Some(&customer.token), off, json!({})).await;
    for (step, words) in [("orderShip", "is on its way"), ("orderDeliver", "was delivered")] {
        let query = format!("mutation($id: ID!) {{ {step}(id: $id) {{ userErrors {{ code }} }} }}");
        app.query(Some(&staff.token), &query, json!({ "id": id })).await;
        let step = told(&app, &customer, &format!("{number} {words}")).await;
        assert_eq!(step["status"], "SKIPPED");
        assert!(!file_of(&app, &step).exists());
        let why = "query($id: ID!) { node(id: $id) { ... on Notification { lastError } } }";
        let seen = app.query(Some(&staff.token), why, json!({ "id": step["id"] })).await;
        assert_eq!(seen["node"]["lastError"], "order updates are switched off");
        let refused = app.answer(Some(&customer.token), why, json!({ "id": step["id"] })).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "FORBIDDEN", "{refused}");
    }
    let again = app.place(&customer, &unique("told"), &[(&product, 1)], 10_000).await;
    let number = again["order"]["number"].as_str().unwrap();
    let confirmed = told(&app, &customer, &format!("{number} is confirmed")).await;
    assert_eq!(confirmed["status"], "SENT", "a confirmation always goes out");
    let inbox = inbox(&app, &customer, false).await;
    assert_eq!(inbox["totalCount"], 5, "the welcome, two confirmations, shipped, delivered: {inbox}");
}

#[actix_rt::test]
async fn an_inbox_is_read_page_by_page_and_what_is_read_stays_read() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let (customer, stranger) = (app.sign_up().await, app.sign_up().await);
    for _ in 0..3 {
        let placed = app.place(&customer, &unique("read"), &[(&product, 1)], 10_000).await;
        told(&app, &customer, placed["order"]["number"].as_str().unwrap()).await;
    }
    let (mut seen, mut after) = (Vec::new(), Value::Null);
    loop {
        let variables = json!({ "first": 3, "after": after });
        let page = app.query(Some(&customer.token), INBOX, variables).await["me"]["notifications"].take();
        assert_eq!((&page["totalCount"], &page["unreadCount"]), (&json!(4), &json!(4)));
        seen.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["id"].clone()));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(seen.len(), 4);

    let mark = async |by: &Account, variables: Value| {
        app.query(Some(&by.token), MARK_READ, variables).await["notificationsMarkRead"].take()
    };
    let foreign = mark(&stranger, json!({ "ids": [seen[0]] })).await;
    assert_eq!(foreign["userErrors"][0], json!({ "code": "NOT_FOUND", "field": ["ids", "0"] }));
    assert_eq!(mark(&customer, json!({ "ids": [seen[0], seen[1]] })).await["updatedCount"], 2);
    assert_eq!(mark(&customer, json!({ "ids": [seen[0]] })).await["updatedCount"], 0, "it was read before");
    let unread = inbox(&app, &customer, true).await;
    assert_eq!((&unread["totalCount"], &unread["unreadCount"]), (&json!(2), &json!(2)));
    assert_eq!(unread["nodes"][0]["id"], seen[2]);
    assert_eq!(mark(&customer, json!({ "all": true })).await["updatedCount"], 2);
    assert_eq!(inbox(&app, &customer, false).await["unreadCount"], 0);

    // Staff see whose it is, a stranger nothing.
    let node = "query($id: ID!) { node(id: $id) { id ... on Notification { subject read } } }";
    let by_staff = app.query(Some(&staff.token), node, json!({ "id": seen[0] })).await;
    assert_eq!((&by_staff["node"]["id"], &by_staff["node"]["read"]), (&seen[0], &json!(true)));
    for token in [Some(stranger.token.as_str()), None] {
        assert!(app.query(token, node, json!({ "id": seen[0] })).await["node"].is_null());
    }
}

#[actix_rt::test]
async fn what_arrives_is_pushed_once() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 1_000).await;
    let (customer, other) = (app.sign_up().await, app.sign_up().await);
    told(&app, &customer, "Welcome").await;
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let received = socket.subscribe("subscription { notificationReceived { id subject kind } }", json!({})).await;
    const PUSHED: usize = 8;
    // The subscription has no first message: orders go on until enough was pushed.
    let stop = std::cell::Cell::new(false);
    let ordering = async {
        while !stop.get() {
            for account in [&customer, &other] {
                app.place(account, &unique("live"), &[(&product, 1)], 10_000).await;
            }
        }
    };
    let watching = async {
        let mut pushed = Vec::new();
        while pushed.len() < PUSHED {
            pushed.push(socket.data_of(&received).await["notificationReceived"]["id"].clone());
        }
        stop.set(true);
        pushed
    };
    let (pushed, ()) = tokio::join!(watching, ordering);
    let listed = app.query(Some(&customer.token), INBOX, json!({ "first": 100 })).await;
    let mut mine: Vec<_> =
        listed["me"]["notifications"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].clone()).collect();
    mine.reverse();
    let first = mine.iter().position(|id| *id == pushed[0]).expect("it is the customer's own");
    assert!(first > 0, "what came before the subscription is not pushed");
    assert_eq!(pushed, mine[first..first + PUSHED], "in order, none missed, none twice");
}

/// A mail server that knows nobody until it is told otherwise; its address and the recipients whose mail it took.
async fn forgetful_server() -> (SocketAddr, Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, knows, taken) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default(), Arc::default());
    let (shared, mails) = (Arc::clone(&knows), Arc::<Mutex<Vec<String>>>::clone(&taken));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (shared, mails) = (Arc::clone(&shared), Arc::clone(&mails));
            tokio::spawn(async move { drop(serve_mail(stream, &shared, &mails).await) });
        }
    });
    (address, knows, taken)
}

async fn serve_mail(stream: TcpStream, knows: &AtomicBool, taken: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let (mut recipient, mut content) = (String::new(), false);
    write.write_all(b"220 here\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "." if content => {
                content = false;
                taken.lock().unwrap().push(std::mem::take(&mut recipient));
                "250 taken\r\n"
            }
            _ if content => continue,
            "RCPT" if !knows.load(Ordering::Relaxed) => "550 5.1.1 nobody of that name\r\n",
            "RCPT" => {
                recipient = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 known\r\n"
            }
            "DATA" => {
                content = true;
                "354 go on\r\n"
            }
            "QUIT" => return write.write_all(b"221 bye\r\n").await,
            _ => "250 well\r\n",
        };
        write.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

#[actix_rt::test]
async fn a_mail_that_failed_for_good_is_sent_when_its_letter_is_replayed_and_fails_into_the_next_round() {
    let (server, knows, taken) = forgetful_server().await;
    let app = spawn_app_with(|config| {
        config.limits.enabled = false;
        config.mail.kind = MailKind::Smtp;
        config.mail.uri = SecretUri::new(format!("smtp://{server}?tls=none"));
    })
    .await;
    let (staff, customer) = (app.staff().await, app.sign_up().await);
    let dead = told(&app, &customer, "Welcome").await;
    assert_eq!((&dead["status"], &dead["attempts"]), (&json!("DEAD"), &json!(1)));
    let notification = dead["id"].as_str().unwrap();
    let letters = "{ deadLetters(source: \"notifications\") { nodes { id reason payload replayedAt } } }";
    // Of this notification, newest first.
    let letters_of = async || {
        let mut data = app.query(Some(&staff.token), letters, json!({})).await;
        let nodes = data["deadLetters"]["nodes"].as_array_mut().unwrap();
        nodes.retain(|letter| letter["payload"].as_str().unwrap().contains(notification));
        nodes.clone()
    };
    let replay = "mutation($id: ID!) { deadLetterReplay(ids: [$id]) { userErrors { code } } }";
    for round in 1..=3 {
        let open = eventually(&format!("letter {round} is there"), async || {
            let letters = letters_of().await;
            (letters.len() == round && letters[0]["replayedAt"].is_null()).then(|| letters[0].clone())
        })
        .await;
        assert!(open["reason"].as_str().unwrap().contains("550"), "{open}");
        knows.store(round == 3, Ordering::Relaxed);
        for _ in 0..2 {
            app.query(Some(&staff.token), replay, json!({ "id": open["id"] })).await;
        }
    }
    let sent = eventually("the mail is sent", async || {
        let nodes = inbox(&app, &customer, false).await["nodes"].take();
        nodes.as_array().unwrap().iter().find(|node| node["status"] == "SENT").cloned()
    })
    .await;
    assert_eq!((sent["id"].as_str(), &sent["attempts"]), (Some(notification), &json!(4)));
    let taken = taken.lock().unwrap().iter().filter(|to| **to == customer.email).count();
    assert_eq!((taken, letters_of().await.len()), (1, 3));
}
