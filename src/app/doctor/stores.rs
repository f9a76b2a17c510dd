//! The stores: files, or databases on MongoDB, its replica set, indexes and clock.

use super::Finding;
use crate::actors::users::keys::check_secret;
use crate::app::stores::{open_users, production};
use crate::config::{Config, StoreKind};
use crate::store::mongo::{self, DatabaseFound, OpenError, ServerFound};
use crate::store::sqlite::{self, FileFound, FileState};

/// Clocks that differ by more make leases and the limits of a day differ from process to process.
const CLOCKS_APART_MS: i64 = 1_000;

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    match config.store.kind {
        StoreKind::Sqlite => {
            let files = sqlite::inspect(&config.data_dir);
            let mut findings: Vec<Finding> = files.iter().map(file).collect();
            let is_users = |file: &&FileFound| file.path.ends_with("users.db");
            if files.iter().find(is_users).is_some_and(FileFound::is_current) {
                findings.push(secrets(config).await);
            }
            findings
        }
        StoreKind::Mongodb => databases(config).await,
    }
}

/// Whether what is sealed in the users store can be read; only of a store that opening changes nothing of.
async fn secrets(config: &Config) -> Finding {
    const PART: &str = "auth.key_secret";
    let users = match open_users(config).await {
        Ok(users) => users,
        Err(error) => return Finding::bad(PART, error, "see what is said of the users store"),
    };
    match check_secret(users.as_ref(), config.auth.key_secret.expose()).await {
        Ok(keys) => Finding::good(PART, format_args!("the signing keys can be read, {keys} of them")),
        Err(error) => Finding::bad(PART, error, "set auth.key_secret to the one that they were made under"),
    }
}

fn file(file: &FileFound) -> Finding {
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let part = format!("store {name}");
    match &file.state {
        FileState::Missing => Finding::good(part, "not there; a start makes it"),
        FileState::Version { found, known } => of_version(part, *found, *known),
        FileState::Broken(why) => Finding::bad(part, why, "stop souk and put back the file from a backup"),
    }
}

fn of_version(part: String, found: u32, known: u32) -> Finding {
    if found > known {
        let seen = format!("schema version {found}, and this program knows up to {known}");
        return Finding::bad(part, seen, "use a newer souk");
    }
    if found < known {
        return Finding::doubtful(
            part,
            format_args!("schema version {found} of {known}"),
            "`souk migrate`, or a start, brings it to the newest",
        );
    }
    Finding::good(part, format_args!("schema version {found}"))
}

async fn databases(config: &Config) -> Vec<Finding> {
    let found = match mongo::inspect(&production::mongo_settings(config)).await {
        Ok(found) => found,
        Err(error) => return vec![Finding::bad("store", error, "free some memory or threads of this machine")],
    };
    let mut findings = Vec::new();
    // Domains mostly share a server: what is said of one twice is said once.
    for (part, finding) in found.iter().flat_map(database) {
        if !findings.iter().any(|known: &Finding| known.part == part && known.seen == finding.seen) {
            findings.push(finding);
        }
    }
    let name = format!("{}users", config.store.prefix);
    let is_current = |found: &DatabaseFound| found.database == name && found.version.0 == found.version.1;
    if found.iter().flatten().any(is_current) {
        findings.push(secrets(config).await);
    }
    findings
}

fn database(found: &Result<DatabaseFound, OpenError>) -> Vec<(String, Finding)> {
    let findings = match found {
        Ok(found) => {
            let mut findings = server(&found.server);
            findings.push(schema(found));
            findings
        }
        Err(error) => vec![Finding::bad(
            "store",
            error,
            "start MongoDB, or mend store.uri: its hosts, port, replicaSet, user and password",
        )],
    };
    findings.into_iter().map(|finding| (finding.part.clone(), finding)).collect()
}

fn server(server: &ServerFound) -> Vec<Finding> {
    let replica_set = match &server.replica_set {
        Some(name) => Finding::good("mongodb", format_args!("version {}, replica set {name}", server.version)),
        None => Finding::bad(
            "mongodb",
            format_args!("version {}, not a member of a replica set: it has no transactions", server.version),
            "start mongod with --replSet rs0 and run rs.initiate() once",
        ),
    };
    let ahead = server.clock_ahead_ms;
    let clock = if ahead.abs() <= CLOCKS_APART_MS {
        Finding::good("clock", "within a second of MongoDB's")
    } else {
        Finding::bad(
            "clock",
            format_args!("MongoDB's is {} ms {}", ahead.abs(), if ahead > 0 { "ahead" } else { "behind" }),
            "let NTP set the clocks of both machines",
        )
    };
    vec![replica_set, clock]
}

fn schema(found: &DatabaseFound) -> Finding {
    let part = format!("store {}", found.database);
    if !found.missing_indexes.is_empty() {
        return Finding::bad(
            part,
            format_args!("without the indexes {}", found.missing_indexes.join(", ")),
            "make them again as another database of this version has them (db.collection.getIndexes())",
        );
    }
    match found.version {
        (0, _) => Finding::good(part, "not there; a start makes it"),
        (of_database, known) => of_version(part, of_database, known),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn found(replica_set: Option<&str>, clock_ahead_ms: i64, version: (u32, u32), missing: &[&str]) -> Vec<Verdict> {
        let server =
            ServerFound { version: "8.0.4".to_owned(), replica_set: replica_set.map(str::to_owned), clock_ahead_ms };
        let missing_indexes = missing.iter().map(|name| (*name).to_owned()).collect();
        let found = DatabaseFound { database: "souk_orders".to_owned(), server, version, missing_indexes };
        database(&Ok(found)).into_iter().map(|(_, finding)| finding.verdict).collect()
    }

    #[test]
    fn a_server_alone_a_clock_apart_a_missing_index_and_another_version_each_show() {
        use Verdict::{Bad, Doubtful, Good};
        assert_eq!(found(Some("rs0"), 12, (2, 2), &[]), [Good, Good, Good]);
        assert_eq!(found(Some("rs0"), 12, (0, 2), &[]), [Good, Good, Good]);
        assert_eq!(found(None, -1_500, (1, 2), &[]), [Bad, Bad, Doubtful]);
        assert_eq!(found(Some("rs0"), 0, (3, 2), &[]), [Good, Good, Bad]);
        assert_eq!(found(Some("rs0"), 0, (2, 2), &["orders.customer"]), [Good, Good, Bad]);
    }
}
