//! Each mail as a file, for a shop without a mail server: `data_dir/mail/<notification id>.eml`.
//!
//! A file appears whole or not at all, also when the machine stops; a repeated attempt replaces its own.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{DeliveryFailure, FailureClass, Mail, Mailer, message};
use crate::config::MailSender;

/// Writes to the disk on tokio's blocking threads.
pub struct DirectoryMailer {
    folder: PathBuf,
    sender: MailSender,
}

impl DirectoryMailer {
    pub fn new(data_dir: &Path, sender: MailSender) -> Self {
        Self { folder: data_dir.join("mail"), sender }
    }
}

#[async_trait]
impl Mailer for DirectoryMailer {
    async fn deliver(&self, mail: &Mail) -> Result<(), DeliveryFailure> {
        let (folder, name) = (self.folder.clone(), mail.notification_id().to_string());
        let bytes = message::bytes(mail, &self.sender);
        let written = tokio::task::spawn_blocking(move || write_whole(&folder, &name, &bytes)).await;
        // A full disk says nothing about the mail.
        let failed = |reason| DeliveryFailure { class: FailureClass::NotReached, reason };
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(format!("the mail's file cannot be written: {}", error.kind()))),
            Err(_) => Err(failed("the mail's file was not written: the process is stopping".into())),
        }
    }

    async fn is_there(&self) -> bool {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || is_writable(&folder)).await.unwrap_or(false)
    }
}

fn is_writable(folder: &Path) -> bool {
    let is_read_only = |metadata: fs::Metadata| metadata.permissions().readonly();
    create(folder).and_then(|()| fs::metadata(folder)).is_ok_and(|metadata| !is_read_only(metadata))
}

/// For the owner only: a mail may hold a token.
fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    create(folder)?;
    let unfinished = folder.join(format!(".{name}.unfinished"));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(format!("{name}.eml")))?;
    File::open(folder)?.sync_all()
}
