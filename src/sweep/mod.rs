//! A sweep: every tensor of a checkpoint, in bounded memory, with a report that is written as it goes.

pub mod record;
