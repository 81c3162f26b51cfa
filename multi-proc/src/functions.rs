//! Groups whose tasks are functions with their arguments, for processes that do not have this one's memory: forked by a zygote, or
//! executed. `functions/README.md` says what each side does, and why nobody waits for ever.

mod call;
mod group;
mod init;
mod nursery;
mod order;
mod source;
mod spawn;
mod task;
mod token;
mod zygote;

pub use group::FnGroup;
pub use init::init;
pub use task::FnTaskBuilder;
pub use token::task_token;

pub(crate) use call::Call;
pub(crate) use group::{make_executing, make_zygote};
pub(crate) use source::Source;
pub(crate) use spawn::{Setting, why_it_never_began};
pub(crate) use zygote::Zygote;
