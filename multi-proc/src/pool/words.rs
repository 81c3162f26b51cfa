//! What the model checker sees of a pool: the words that its processes share, and nothing above them.

mod bell;
mod dismissal;
#[cfg(test)]
mod model;
mod word;
