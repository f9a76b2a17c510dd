//! The event log, the cache and the mail server.

use super::Finding;
use crate::app::notifications::mailer;
use crate::app::stores::{embedded, open_cache, production};
use crate::config::{CacheKind, Config, EventsKind, MailKind};
use crate::kafka::LogError;
use crate::kafka::broker::{self, TopicsFound};

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![match config.events.kind {
        EventsKind::Embedded => file(embedded::inspect_log(config)),
        EventsKind::Kafka => topics(broker::inspect(production::broker_settings(config)).await, config),
    }];
    if config.cache.kind == CacheKind::Redis {
        findings.push(cache(config).await);
    }
    if config.mail.kind == MailKind::Smtp {
        findings.push(mail(config).await);
    }
    findings
}

fn file(found: Result<bool, LogError>) -> Finding {
    match found {
        Ok(true) => Finding::good("store events.db", "whole, and of this version"),
        Ok(false) => Finding::good("store events.db", "not there; a start makes it"),
        Err(error @ LogError::PartitionCount { existing, .. }) => {
            Finding::bad("store events.db", error, format!("set events.partitions to {existing}"))
        }
        Err(error) => Finding::bad("store events.db", error, "stop souk and put back the file from a backup"),
    }
}

fn topics(found: Result<TopicsFound, LogError>, config: &Config) -> Finding {
    let part = "kafka";
    match found {
        Ok(TopicsFound::Ready) => {
            Finding::good(part, format_args!("every topic is there, with {} partitions", config.events.partitions))
        }
        Ok(TopicsFound::Missing(topics)) => {
            let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
            Finding::doubtful(
                part,
                format_args!("without the topics {}", names.join(", ")),
                "a start makes them, where the broker lets it; else make them by hand",
            )
        }
        Ok(TopicsFound::Leaderless(topic)) => Finding::bad(
            part,
            format_args!("the topic {topic} has partitions without a leader"),
            "start the brokers that hold them",
        ),
        Err(error @ LogError::PartitionCount { existing, .. }) => Finding::bad(
            part,
            error,
            format!("set events.partitions to {existing}; where topics differ see docs/lost-log.md"),
        ),
        Err(error) => Finding::bad(
            part,
            error,
            "start Kafka, or mend events.brokers, events.tls and events.sasl; until then orders stay PENDING",
        ),
    }
}

async fn cache(config: &Config) -> Finding {
    match open_cache(config) {
        Ok(Some(cache)) if cache.is_there().await => Finding::good("redis", "answers"),
        Ok(_) => Finding::doubtful(
            "redis",
            "does not answer",
            "start Redis, or mend cache.uri; until then reads go to the stores",
        ),
        Err(error) => Finding::bad("redis", error, "mend cache.uri"),
    }
}

async fn mail(config: &Config) -> Finding {
    match mailer(config) {
        Ok(mailer) if mailer.is_there().await => Finding::good("mail", "the server lets this shop sign in"),
        Ok(_) => Finding::doubtful(
            "mail",
            "the server cannot be reached, or does not let this shop sign in",
            "start it, or mend mail.uri and mail.tls_ca_file; until then mails wait",
        ),
        Err(error) => Finding::bad("mail", error, "mend mail.uri and mail.from"),
    }
}
