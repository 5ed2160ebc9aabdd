//! Opening the quantised model that a command is given.

use super::console::Console;
use crate::error::Result;
use crate::format::{TqModel, gguf::Dialect};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::Path;

#[derive(clap::Args)]
pub struct ModelArgs {
    /// Program that wrote a GGUF file, where its type numbers have several meanings and the bytes do not tell
    #[arg(long, value_name = "PROGRAM", value_parser = dialects(), requires = "tq_model", help_heading = "Input")]
    gguf_dialect: Option<Dialect>,
}

fn dialects() -> impl TypedValueParser<Value = Dialect> {
    PossibleValuesParser::new(Dialect::ALL.map(Dialect::name))
        .try_map(|name| name.parse::<Dialect>())
}

impl ModelArgs {
    /// Opens it and says what a user should know of it.
    pub fn open(&self, path: &Path, console: &Console) -> Result<TqModel> {
        let model = TqModel::open_in(path, self.gguf_dialect)?;
        for note in model.notes() {
            console.note(&format!("note: {note}"));
        }
        Ok(model)
    }
}
