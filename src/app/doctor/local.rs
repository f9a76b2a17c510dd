//! This machine: the data folder, the addresses to listen on, the secrets.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Finding;
use crate::app::stores::keeps_files;
use crate::config::{Config, MailKind};

/// The rights of others than the owner.
const OTHERS: u32 = 0o077;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![secrets(config)];
    if keeps_files(config) || config.mail.kind == MailKind::Directory {
        findings.push(data_folder(&config.data_dir));
    }
    findings.push(listener("gateway.listen", config.gateway.listen));
    findings.push(listener("admin.listen", config.admin.listen));
    if config.guesses_public_url() {
        let what = "empty: links in mails would lead to an address that customers do not reach";
        findings.push(Finding::bad(
            "gateway.public_url",
            what,
            "set it to the origin under which customers reach the shop",
        ));
    }
    findings
}

/// What production refuses was refused when the configuration was read.
fn secrets(config: &Config) -> Finding {
    let part = "config";
    if config.is_production() {
        Finding::good(part, "production, without default secrets, fault switches or demo data")
    } else if config.auth.key_secret.expose().is_empty() {
        Finding::good(part, "development: signing keys are kept without a secret over them")
    } else {
        Finding::good(part, "development")
    }
}

fn data_folder(folder: &Path) -> Finding {
    let part = "data_dir";
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Ok(there) if !there.is_dir() => {
            Finding::bad(part, format_args!("{shown} is a file"), "name a folder in data_dir or with --data-dir")
        }
        Ok(there) => match tempfile_in(folder) {
            Err(error) => {
                Finding::bad(part, format_args!("{shown}: {error}"), format!("let this user write to {shown}"))
            }
            Ok(()) if there.permissions().mode() & OTHERS != 0 => Finding::doubtful(
                part,
                format_args!("{shown} can be read by other users; passwords' hashes and mails lie there"),
                format!("chmod 700 {shown}"),
            ),
            Ok(()) => Finding::good(part, format_args!("{shown} can be written to, by its owner only")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => match parent_that_is_there(folder) {
            Some(parent) if tempfile_in(parent).is_ok() => {
                Finding::good(part, format_args!("{shown} is not there; a start makes it"))
            }
            _ => Finding::bad(
                part,
                format_args!("{shown} is not there and cannot be made"),
                "make it, or let this user write to the folder above it",
            ),
        },
        Err(error) => Finding::bad(part, format_args!("{shown}: {error}"), format!("let this user read {shown}")),
    }
}

fn parent_that_is_there(folder: &Path) -> Option<&Path> {
    // A relative folder lies in the working folder.
    folder
        .ancestors()
        .skip(1)
        .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        .find(|parent| parent.is_dir())
}

/// Writes a file and removes it: rights, a full disk and a read-only one all show.
fn tempfile_in(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".souk-doctor-{}", std::process::id()));
    let written = std::fs::write(&path, "souk doctor");
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

fn listener(part: &str, address: SocketAddr) -> Finding {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Finding::good(part, format_args!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::doubtful(
            part,
            format_args!("{address} is taken: by a souk that runs, or by another program"),
            format!("stop it, or choose another address in {part}"),
        ),
        Err(error) => Finding::bad(
            part,
            format_args!("{address}: {error}"),
            format!("choose an address of this machine in {part}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_data_folder_is_made_private_or_refused_where_it_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let verdict = |path: &Path| data_folder(path).verdict;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(verdict(folder.path()), Verdict::Good);
        assert_eq!(verdict(&folder.path().join("a/b")), Verdict::Good);
        assert!(!folder.path().join("a").exists());
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(verdict(folder.path()), Verdict::Doubtful);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!((verdict(&file), verdict(&file.join("below"))), (Verdict::Bad, Verdict::Bad));
    }

    #[test]
    fn an_address_is_free_taken_or_not_of_this_machine() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let verdict = |address| listener("gateway.listen", address).verdict;
        assert_eq!(verdict(holder.local_addr().unwrap()), Verdict::Doubtful);
        assert_eq!(verdict("127.0.0.1:0".parse().unwrap()), Verdict::Good);
        // Of a block that is kept for documentation: RFC 5737.
        assert_eq!(verdict("192.0.2.1:4000".parse().unwrap()), Verdict::Bad);
    }
}
