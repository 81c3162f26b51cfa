//! What the model checker sees of a pool: the words that its processes share, and nothing above them.

mod bell;
#[path = "buffers/block.rs"]
mod block;
#[cfg(test)]
#[path = "buffers/model.rs"]
mod block_model;
mod dismissal;
#[cfg(test)]
mod model;
mod word;
