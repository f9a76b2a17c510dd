//! Reads the trusted documents that the configuration names.

use std::fs;
use std::path::{Path, PathBuf};

use super::AppError;
use crate::config::Config;
use crate::gateway::trusted_documents::TrustedDocuments;

/// Those of `gateway.trusted_documents`; `None` where it is not set and every document is executed.
pub(super) fn trusted_documents(config: &Config) -> Result<Option<TrustedDocuments>, AppError> {
    let path = &config.gateway.trusted_documents;
    if path.as_os_str().is_empty() { Ok(None) } else { read_trusted_documents(config, path).map(Some) }
}

/// Those of a manifest (`.json`), of a document, or of every `.graphql` file of a folder and the folders in it.
pub fn read_trusted_documents(config: &Config, path: &Path) -> Result<TrustedDocuments, AppError> {
    let limits = super::listeners::document_limits(config);
    let wrong = |path: &Path, reason: &dyn std::fmt::Display| {
        AppError::usage(format!("trusted documents: {}: {reason}", path.display()))
    };
    let mut documents = TrustedDocuments::default();
    for file in files(path).map_err(|error| wrong(path, &error))? {
        let text = fs::read_to_string(&file).map_err(|error| wrong(&file, &error))?;
        let is_manifest = file.extension().is_some_and(|extension| extension == "json");
        let added = if is_manifest { documents.add_manifest(&text, &limits) } else { documents.add(&text, &limits) };
        added.map_err(|error| wrong(&file, &error))?;
    }
    if documents.is_empty() { Err(wrong(path, &"there is none")) } else { Ok(documents) }
}

fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "graphql") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::default()
    }

    #[test]
    fn a_folder_a_file_and_a_manifest_of_them_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, inner) = (dir.path().join("queries"), dir.path().join("queries/more"));
        fs::create_dir_all(&inner).unwrap();
        fs::write(folder.join("me.graphql"), "{ me { id } }\n").unwrap();
        fs::write(inner.join("names.graphql"), "{ categories { name } }").unwrap();
        fs::write(folder.join("README.md"), "not a document").unwrap();
        let of_folder = read_trusted_documents(&config(), &folder).unwrap().manifest();
        assert_eq!(of_folder.matches("{ ").count(), 4, "{of_folder}");
        let manifest = dir.path().join("manifest.json");
        fs::write(&manifest, &of_folder).unwrap();
        assert_eq!(read_trusted_documents(&config(), &manifest).unwrap().manifest(), of_folder);
        assert!(!read_trusted_documents(&config(), &folder.join("me.graphql")).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_a_wrong_setting_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("broken.graphql");
        fs::write(&broken, "{").unwrap();
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        for (path, reason) in [
            (dir.path().to_owned(), "cannot be executed"),
            (empty, "there is none"),
            (dir.path().join("nothing"), "No such file"),
        ] {
            let error = read_trusted_documents(&config(), &path).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(reason), "{error}");
        }
        assert!(read_trusted_documents(&config(), &broken).unwrap_err().to_string().contains("broken.graphql"));
        assert!(trusted_documents(&config()).unwrap().is_none());
    }
}
