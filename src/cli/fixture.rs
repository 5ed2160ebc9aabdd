//! `tq4 fixture`: small models that hold what kernels get wrong.

use super::console::Console;
use super::{Exit, print};
use crate::Error;
use crate::error::Result;
use crate::format::example;
use crate::report::Style;
use crate::tensor::{GROUP_SIZES, Layout};
use std::path::PathBuf;

/// Write small models of every format that hold what kernels get wrong
///
/// One for each number of bits and group size, DIR/b4_g128 and DIR/native_b4_g128 and so on, of six tensors: every
/// code at every position, every class of scale (zeros, subnormals, the largest), odd numbers of groups, tail rows,
/// one row, one group. One GGUF file for each type of block, with experts and tensors of other types; a GGUF model
/// of two files; one with sensitive layers, padded rows and experts. They are the same on every machine.
#[derive(clap::Args)]
pub struct Args {
    /// Directory that is made for them
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Bits per code: 2, 3 or 4; all when left out
    #[arg(long)]
    bits: Option<u32>,
    /// Elements per group: 32, 64, 128 or 256; all when left out
    #[arg(long, value_name = "N")]
    group_size: Option<usize>,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let mut layouts = Vec::new();
    for bits in args.bits.map_or_else(|| vec![2, 3, 4], |b| vec![b]) {
        for n in args
            .group_size
            .map_or_else(|| GROUP_SIZES.to_vec(), |n| vec![n])
        {
            layouts.push(Layout::new(bits, n)?);
        }
    }
    if args.dir.exists() {
        return Err(Error::input(
            "it is there already",
            args.dir.display().to_string(),
            "name a directory that is not there yet",
        ));
    }
    let parent = args.dir.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| ".".as_ref());
    let io = |e| Error::io("make a directory in", parent, e);
    // Whole or not at all: it gets its name when everything is in it.
    let unfinished = tempfile::tempdir_in(parent).map_err(io)?;
    let mut text = String::new();
    let whole = args.bits.is_none() && args.group_size.is_none();
    for (name, what) in example::write_all(unfinished.path(), &layouts, whole)? {
        text += &format!("{}: {what}\n", args.dir.join(name).display());
    }
    std::fs::rename(unfinished.path(), &args.dir).map_err(|e| Error::io("make", &args.dir, e))?;
    // It has another name now, and nothing is left to remove.
    let _ = unfinished.keep();
    readable(&args.dir)?;
    print(&Style::Terminal(console.screen).lines(&text))?;
    Ok(Exit::Passed)
}

/// A temporary directory is private; what a user asked for is readable like any other.
fn readable(dir: &std::path::Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir, mode).map_err(|e| Error::io("open up", dir, e))?;
    }
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
