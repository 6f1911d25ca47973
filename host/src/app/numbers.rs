//! Numbers of the configuration: the rules that clients' numbers are read by, and the tables of
//! networks, read at the start and again when they change. What a table may hold is the pipeline's
//! business.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;

use super::watched::{SETTLE, Stamp, Watch, stamp};
use super::{StartError, failed};
use crate::config::{Config, ValidateName};
use crate::domain::AccountId;
use crate::pipeline::Pipeline;
use crate::pipeline::numbers::{
    Kinds, Numbers, Region, Rules, Settings, TableFiles, Tables, Validate,
};

/// What the configuration says of numbers, without its tables.
pub fn of(config: &Config) -> Result<Numbers, StartError> {
    let section = &config.numbers;
    let zones = Numbers::new(section.timezones.clone())
        .map_err(|e| StartError(format!("numbers.timezones: {:?} is no IANA time zone", e.0)))?;
    let region = |at: &str, text: &Option<String>| {
        text.as_deref()
            .map(Region::parse)
            .transpose()
            .map_err(|e| failed(at, e))
    };
    let mut settings = Settings {
        rules: Rules {
            region: region("numbers.default_region", &section.default_region)?,
            validate: match section.validate {
                ValidateName::Shape => Validate::Shape,
                ValidateName::Possible => Validate::Possible,
                ValidateName::Valid => Validate::Valid,
            },
            refused: Kinds::named(section.refuse_kinds.iter().map(String::as_str))
                .map_err(|e| failed("numbers.refuse_kinds", e))?,
            short_codes: section.short_code_recipients,
        },
        ..Settings::default()
    };
    for (i, account) in config.accounts.iter().enumerate() {
        let at = format!("accounts[{i}] ({}).default_region", account.id);
        if let Some(region) = region(&at, &account.default_region)? {
            settings
                .regions
                .insert(AccountId::from(account.id.as_str()), region);
        }
    }
    Ok(zones.with_settings(settings))
}

/// Where the tables are.
pub fn files(config: &Config, base: &Path) -> TableFiles {
    // Event paths are absolute.
    let path = |file: &Option<PathBuf>| {
        file.as_ref().map(|file| {
            let path = base.join(file);
            std::path::absolute(&path).unwrap_or(path)
        })
    };
    TableFiles {
        networks: path(&config.numbers.networks),
        ported: path(&config.numbers.ported),
    }
}

/// Reads the tables and says what is in them; puts them nowhere.
pub async fn check(files: &TableFiles) -> Result<Vec<String>, StartError> {
    if *files == TableFiles::default() {
        return Ok(Vec::new());
    }
    let tables = read(files).await.map_err(|e| failed("numbers", e))?;
    Ok(vec![format!(
        "{} number ranges with a network, {} ported numbers and ranges",
        tables.networks.len(),
        tables.ported.len()
    )])
}

/// Reads the tables for the first time: a server does not start on a bad one.
pub async fn load(files: &TableFiles, numbers: &Numbers) -> Result<(), StartError> {
    if *files != TableFiles::default() {
        numbers.set_tables(read(files).await.map_err(|e| failed("numbers", e))?);
    }
    Ok(())
}

async fn read(files: &TableFiles) -> Result<Tables, String> {
    let files = files.clone();
    tokio::task::spawn_blocking(move || files.read())
        .await
        .unwrap_or_else(|e| Err(e.to_string()))
}

/// Reads the tables again whenever one of them has changed, and whenever it is `asked` to. All of
/// them come into force at once; where one is bad, those before stay.
pub async fn keep(pipeline: Arc<Pipeline>, files: TableFiles, asked: Arc<Notify>) {
    let changed = Arc::new(Notify::new());
    let mut watch = Watch::new("the tables of numbers", changed.clone());
    let mut seen = stamps(&files).await;
    loop {
        if watch.folders(files.paths().filter_map(|path| path.parent())) {
            // What changed between the reading and the watching has raised no event.
            changed.notify_one();
        }
        let asked = tokio::select! {
            () = asked.notified() => true,
            () = changed.notified() => false,
        };
        tokio::time::sleep(SETTLE).await;
        // Stamps before contents: what changes in between is seen as a change.
        let now = stamps(&files).await;
        if !asked && now == seen {
            continue;
        }
        seen = now;
        match read(&files).await {
            Ok(tables) => {
                let (networks, ported) = (tables.networks.len(), tables.ported.len());
                pipeline.numbers.set_tables(tables);
                pipeline.numbers.note_reload(true);
                tracing::info!(networks, ported, "the tables of numbers are in force");
            }
            Err(error) => {
                pipeline.numbers.note_reload(false);
                tracing::error!(
                    error,
                    "a table of numbers is refused; those before stay in force"
                );
            }
        }
    }
}

async fn stamps(files: &TableFiles) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for path in files.paths() {
        stamps.push(stamp(path).await);
    }
    stamps
}
