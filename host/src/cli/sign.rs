//! `heliograph plugin keygen`, `sign` and `verify`: a publisher's keys, and the signatures beside a
//! component's file. How they are written is the plugin module's; nothing here talks to a server.

use std::io::{Read as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::plugin::{PluginError, read_component, replace_file};
use crate::pipeline::signatures::{beside, file_of};
use crate::plugin::{PublicKey, SIGNATURE_FILE_BYTES_MAX, SecretKey, Signatures};

#[derive(Args, Debug)]
#[command(after_help = "Example: heliograph plugin keygen --out ops")]
pub struct Keygen {
    /// Where the pair goes: NAME.key is secret, NAME.pub is for plugins.trusted_keys
    #[arg(long, value_name = "NAME")]
    pub out: PathBuf,
    /// What servers call the signer; the last part of --out unless given
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example: heliograph plugin sign target/plugins/no-links.wasm --key ops.key"
)]
pub struct Sign {
    /// The component; its signatures go to FILE.sig
    pub file: PathBuf,
    /// The secret key that `plugin keygen` made
    #[arg(long, value_name = "NAME.key")]
    pub key: PathBuf,
    /// Drop the signatures by other keys, which a rebuilt component has outgrown
    #[arg(long)]
    pub replace: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example: heliograph plugin verify target/plugins/no-links.wasm --key ops.pub"
)]
pub struct Verify {
    /// The component; its signatures are in FILE.sig
    pub file: PathBuf,
    /// Public keys; one good signature by any of them will do, a bad one by any will not
    #[arg(long, value_name = "NAME.pub", required = true, num_args = 1..)]
    pub key: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Makes a pair of keys; never over an older one.
pub fn keygen(args: &Keygen, out: &mut dyn Write) -> Result<(), PluginError> {
    let base = args.out.file_name().and_then(|n| n.to_str());
    let name = args.name.as_deref().or(base).unwrap_or_default();
    let mut seed = [0; 32];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| PluginError::Failed("this machine gives no random numbers".to_owned()))?;
    let key = SecretKey::new(seed, name).map_err(|e| PluginError::Usage(format!("--name {e}")))?;
    let public = key.public();
    let (secret_file, public_file) = (with(&args.out, ".key"), with(&args.out, ".pub"));
    if public_file.exists() {
        let why = format!("{} exists; keys are never replaced", public_file.display());
        return Err(PluginError::Failed(why));
    }
    create(&secret_file, 0o600, &format!("{}\n", key.line()))?;
    create(&public_file, 0o644, &format!("{}\n", public.line()))?;
    let made = json!({
        "key": public.id().to_string(), "name": name,
        "secret_file": secret_file, "public_file": public_file, "public": public.line(),
    });
    let told = format!(
        "key {} ({name})\n  {}  keep it secret\n  {}  for plugins.trusted_keys of a server",
        public.id(),
        secret_file.display(),
        public_file.display()
    );
    print(out, args.json, &made, &told)
}

/// Signs the file's very bytes. A signature by the same key is replaced, others stay.
pub fn sign(args: &Sign, out: &mut dyn Write) -> Result<(), PluginError> {
    let bytes = read_component(&args.file)?;
    let key = secret_key(&args.key)?;
    let mut all = match args.replace {
        true => Signatures::default(),
        false => beside(&args.file).map_err(PluginError::Failed)?,
    };
    let signature = key.sign(&bytes);
    let line = signature.header();
    all.add(signature)
        .map_err(|e| PluginError::Failed(format!("{}: {e}", args.file.display())))?;
    let file = file_of(&args.file);
    replace_file(&file, all.text().as_bytes())?;
    let public = key.public();
    let keys: Vec<String> = all.iter().map(|s| s.key().to_string()).collect();
    let made = json!({
        "file": file, "key": public.id().to_string(), "name": public.name(),
        "signature": line, "keys": keys,
    });
    let others = match keys.len() {
        1 => String::new(),
        n => format!(", beside {} by other keys", n - 1),
    };
    let told = format!(
        "{}: signed by {} ({}){others}",
        file.display(),
        public.name(),
        public.id()
    );
    print(out, args.json, &made, &told)
}

/// Holds the signatures of a file against keys, as a server that trusts them does.
pub fn verify(args: &Verify, out: &mut dyn Write) -> Result<(), PluginError> {
    let bytes = read_component(&args.file)?;
    let given = beside(&args.file).map_err(PluginError::Failed)?;
    let mut keys = Vec::new();
    for file in &args.key {
        keys.extend(public_keys(file)?);
    }
    let found = against(&given, &bytes, &keys);
    let good = found.iter().any(|f| f.state == State::Good);
    let bad = found.iter().any(|f| f.state == State::Bad);
    let verdict = json!({ "file": args.file, "good": good && !bad, "signatures": views(&found) });
    let lines = match found.as_slice() {
        [] => format!("{}: unsigned", args.file.display()),
        some => {
            let lines: Vec<String> = some.iter().map(Found::to_string).collect();
            format!("{}: {}", args.file.display(), lines.join("\n  "))
        }
    };
    print(out, args.json, &verdict, &lines)?;
    match good && !bad {
        true => Ok(()),
        false if bad => Err(PluginError::Failed(
            "a signature is not over these bytes".to_owned(),
        )),
        false => Err(PluginError::Failed(
            "no signature by any of these keys".to_owned(),
        )),
    }
}

/// A signature of a file, held against some keys.
pub struct Found {
    pub key: String,
    pub name: Option<String>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Good,
    Bad,
    /// The key is not at hand.
    Unchecked,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Good => "good",
            State::Bad => "BAD",
            State::Unchecked => "not checked",
        }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "signed by {name} ({}), {}", self.key, self.state.name()),
            None => write!(f, "signed by {}, {}", self.key, self.state.name()),
        }
    }
}

pub fn against(given: &Signatures, bytes: &[u8], keys: &[PublicKey]) -> Vec<Found> {
    let found = given.iter().map(|signature| {
        let key = keys.iter().find(|k| k.id() == signature.key());
        Found {
            key: signature.key().to_string(),
            name: key.map(|k| k.name().to_owned()),
            state: match key {
                None => State::Unchecked,
                Some(key) if key.made(signature, bytes) => State::Good,
                Some(_) => State::Bad,
            },
        }
    });
    found.collect()
}

/// As JSON has them.
pub fn views(found: &[Found]) -> Vec<Value> {
    let view = |f: &Found| {
        let state = f.state.name().to_lowercase().replace(' ', "_");
        json!({ "key": f.key, "name": f.name, "state": state })
    };
    found.iter().map(view).collect()
}

pub fn public_keys(file: &Path) -> Result<Vec<PublicKey>, PluginError> {
    let text = read_key(file)?;
    PublicKey::parse_all(&text)
        .map_err(|e| PluginError::Failed(format!("{}: a public key {e}", file.display())))
}

fn secret_key(file: &Path) -> Result<SecretKey, PluginError> {
    let open = std::fs::metadata(file).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
    if open {
        let file = file.display();
        let why = format!("{file}: others may read or change it; `chmod 600 {file}`");
        return Err(PluginError::Failed(why));
    }
    let text = read_key(file)?;
    SecretKey::parse(&text)
        .map_err(|e| PluginError::Failed(format!("{}: a secret key {e}", file.display())))
}

fn read_key(file: &Path) -> Result<String, PluginError> {
    let io = |reason| PluginError::Io {
        path: file.to_owned(),
        reason,
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(io)?;
    opened
        .take(SIGNATURE_FILE_BYTES_MAX as u64)
        .read_to_string(&mut text)
        .map_err(io)?;
    Ok(text)
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Fails where there is such a file.
fn create(path: &Path, mode: u32, text: &str) -> Result<(), PluginError> {
    let io = |reason| PluginError::Io {
        path: path.to_owned(),
        reason,
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    file.sync_all().map_err(io)
}

fn print(out: &mut dyn Write, json: bool, value: &Value, told: &str) -> Result<(), PluginError> {
    let written = match json {
        true => writeln!(out, "{value}"),
        false => writeln!(out, "{told}"),
    };
    written.map_err(PluginError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Bench {
            let bench = Bench(tempfile::tempdir().unwrap());
            std::fs::write(bench.path("words.wasm"), b"a component").unwrap();
            bench
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn keygen(&self, name: &str) -> Result<(), PluginError> {
            let args = Keygen {
                out: self.path(name),
                name: None,
                json: false,
            };
            keygen(&args, &mut Vec::new())
        }

        fn sign(&self, key: &str, replace: bool) -> Result<(), PluginError> {
            let args = Sign {
                file: self.path("words.wasm"),
                key: self.path(key),
                replace,
                json: false,
            };
            sign(&args, &mut Vec::new())
        }

        fn verify(&self, keys: &[&str]) -> (bool, String) {
            let args = Verify {
                file: self.path("words.wasm"),
                key: keys.iter().map(|k| self.path(k)).collect(),
                json: true,
            };
            let mut out = Vec::new();
            let good = verify(&args, &mut out).is_ok();
            (good, String::from_utf8(out).unwrap())
        }
    }

    #[test]
    fn a_file_is_signed_by_two_keys_and_verified_by_either() {
        let bench = Bench::new();
        for key in ["ops", "dev", "stranger"] {
            bench.keygen(key).unwrap();
        }
        assert!(!bench.verify(&["ops.pub"]).0, "unsigned");
        bench.sign("ops.key", false).unwrap();
        bench.sign("dev.key", false).unwrap();
        assert!(bench.verify(&["ops.pub"]).0);
        let (good, told) = bench.verify(&["dev.pub", "stranger.pub"]);
        assert!(good);
        assert!(told.contains("not_checked"), "{told}");
        assert!(!bench.verify(&["stranger.pub"]).0);
    }

    #[test]
    fn a_changed_file_is_bad_until_it_is_signed_again() {
        let bench = Bench::new();
        bench.keygen("ops").unwrap();
        bench.keygen("dev").unwrap();
        bench.sign("ops.key", false).unwrap();
        bench.sign("dev.key", false).unwrap();
        std::fs::write(bench.path("words.wasm"), b"another component").unwrap();
        assert!(!bench.verify(&["ops.pub"]).0);
        bench.sign("ops.key", false).unwrap();
        assert!(bench.verify(&["ops.pub"]).0);
        assert!(
            !bench.verify(&["ops.pub", "dev.pub"]).0,
            "dev's is of before"
        );
        bench.sign("ops.key", true).unwrap();
        assert!(bench.verify(&["ops.pub", "dev.pub"]).0);
    }

    #[test]
    fn a_secret_key_is_its_owners_alone_and_never_replaced() {
        let bench = Bench::new();
        bench.keygen("ops").unwrap();
        let key = bench.path("ops.key");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&key), 0o600);
        let before = std::fs::read(&key).unwrap();
        assert!(bench.keygen("ops").is_err());
        assert_eq!(std::fs::read(&key).unwrap(), before);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let why = bench.sign("ops.key", false).unwrap_err().to_string();
        assert!(why.contains("chmod 600"), "{why}");
        let why = bench.sign("ops.pub", false).unwrap_err().to_string();
        assert!(why.contains("chmod") || why.contains("secret"), "{why}");
    }
}
