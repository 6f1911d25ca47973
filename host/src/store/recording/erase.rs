//! Forgetting a number in what was recorded: a file that speaks of it is written anew without those
//! decisions and put in its place. One file at a time, off the threads that serve.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::super::sealing::Seals;
use super::case_record::{self, Said};
use super::file::{self, Found, RecordedBlock};
use super::{BLOCK_OCTETS, Block, Kind, inbound_record};
use crate::clock::Timestamp;
use crate::domain::{Case, InboundCase};

/// What one file's turn came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub decisions: u64,
    /// The file's name: the next turn goes on behind it. None: there is none left.
    pub file: Option<String>,
}

/// The first file behind `after` loses what speaks of `number`. Blocks that cannot be read are left
/// out of a file that is written anew: nobody can tell whom they speak of.
pub fn forget(
    folder: &Path,
    seals: Option<Seals>,
    after: &str,
    number: &str,
) -> io::Result<Forgotten> {
    let files = match file::files(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let name = |found: &Found| {
        found
            .path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
    };
    let next = files.into_iter().find_map(|f| {
        let name = name(&f).filter(|n| n.as_str() > after)?;
        Some((f, name))
    });
    let Some((found, name)) = next else {
        return Ok(Forgotten::default());
    };
    let mut decisions = 0;
    let mut left = Vec::new();
    let mut cases = file::cases_of(&found.path, seals.clone())?;
    while let Some(block) = cases.next_block() {
        let (forgotten, block) = match block {
            RecordedBlock::Messages(mut cases) => {
                let before = cases.len();
                cases.retain(|c| !c.message.concerns(number));
                (before - cases.len(), encoded(&cases))
            }
            RecordedBlock::Inbound(mut cases) => {
                let before = cases.len();
                cases.retain(|c| !c.inbound.concerns(number));
                (before - cases.len(), encoded_inbound(&cases))
            }
        };
        decisions += forgotten as u64;
        if block.count > 0 {
            file::put_block(&block, seals.as_ref(), &mut left)?;
        }
    }
    if decisions > 0 {
        replace(&found.path, &left)?;
    }
    Ok(Forgotten {
        decisions,
        file: Some(name),
    })
}

fn encoded(cases: &[Case]) -> Block {
    let at = |c: &Case| c.message.decisions.last().map_or(Timestamp(0), |d| d.at);
    let span = (cases.first().map(at), cases.last().map(at));
    let mut block = begun(Kind::Messages, cases.len(), span);
    let mut said = Said::default();
    for case in cases {
        case_record::write(&case.lent(), &mut said, &mut block.raw);
    }
    block
}

fn encoded_inbound(cases: &[InboundCase]) -> Block {
    let at = |c: &InboundCase| c.context.now;
    let span = (cases.first().map(at), cases.last().map(at));
    let mut block = begun(Kind::Inbound, cases.len(), span);
    for case in cases {
        inbound_record::write(&case.lent(), &mut block.raw);
    }
    block
}

fn begun(kind: Kind, count: usize, (first, last): (Option<Timestamp>, Option<Timestamp>)) -> Block {
    Block {
        kind,
        raw: Vec::with_capacity(BLOCK_OCTETS),
        // As many as there were in a block, whose count has that size.
        count: u32::try_from(count).unwrap_or(u32::MAX),
        first: first.unwrap_or_default(),
        last: last.unwrap_or_default(),
    }
}

fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
