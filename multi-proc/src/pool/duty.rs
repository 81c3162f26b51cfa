//! Workers that are no forked copies of their parent: what they are told, and how they join.
//!
//! What such a worker needs comes with its order, through a socket, and nothing else does: numbers and the key in the message, the memory, the
//! lanes and the bell as descriptors. The arguments of the initialiser alone lie in shared memory, as those of any call.

use super::board::{Board, Shape};
use super::buffers::{self, Arena};
use super::code::Preparation;
use super::hub::{Hub, Prepare};
use super::lanes::Ends;
use super::worker::{self, Share, Tools};
use crate::function::Key;
use crate::functions::{Call, Source};
use crate::reap::Forked;
use crate::sys;
use multi_core::{Result, TaskErrorKind};
use serde::{Deserialize, Serialize};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// What a worker has to know of its pool, beside what comes as descriptors.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Duty {
    index: usize,
    board: Shape,
    arena: buffers::Shape,
    key: Key,
    share: Share,
    origin_ns: u64,
    /// Its arguments lie in the worker's slot.
    preparation: Option<Preparation>,
}

/// For the parent: has `source` make a worker.
///
/// # Errors
///
/// Why there is none.
pub(super) fn start(hub: &Hub, source: &Source, index: usize) -> Result<Forked, TaskErrorKind> {
    let (Some((board, shape)), Some((arena, arena_shape)), Some(lanes)) = (
        hub.board.passing(),
        hub.desk.arena().passing(),
        hub.lanes.passing(),
    ) else {
        unreachable!("a pool whose memory cannot be passed")
    };
    let (preparation, args) = match &hub.settings.in_worker {
        Some(Prepare::Function(function, args)) => (Some(*function), args.clone()),
        Some(Prepare::Closure(_)) => unreachable!("a closure for those that do not have it"),
        None => (None, Vec::new()),
    };
    let tools = hub.tools();
    let duty = Duty {
        index,
        board: shape,
        arena: arena_shape,
        key: *tools.key,
        share: tools.share,
        origin_ns: tools.origin_ns,
        preparation,
    };
    let fds = [board, arena, tools.bell].into_iter().chain(lanes);
    let terms = hub.reaper.settings.terms.as_ref();
    Call::joining(duty, args, fds.collect()).start(&hub.reaper, source, terms)
}

impl Duty {
    /// The board, the arena, the bell, and two for each lane.
    pub(crate) const FD_COUNT: usize = 9;

    /// For the worker: joins, prepares with `args`, and works until there is no more to do.
    ///
    /// # Errors
    ///
    /// Why it could not begin, or go on.
    pub(crate) fn follow(&self, args: &[u8], fds: Vec<OwnedFd>) -> Result {
        let Ok([memory, buffers, bell, lanes @ ..]) = <[OwnedFd; Self::FD_COUNT]>::try_from(fds)
        else {
            return Err("it came without its pool's memory and lanes".into());
        };
        let board = Board::borrow(memory.as_fd(), self.board)
            .map_err(|error| format!("it cannot map its pool's memory: {error}"))?;
        drop(memory);
        let arena = Arena::borrow(buffers.as_fd(), self.arena)
            .map_err(|error| format!("it cannot map its pool's shared buffers: {error}"))?;
        drop(buffers);
        let lanes = Ends::attach(lanes)
            .map_err(|error| format!("it cannot join its pool's lanes: {error}"))?;
        // The worker's code may close what these own: then they close nothing more, and the process, which ends now, can say what happened.
        let (lanes, bell) = (ManuallyDrop::new(lanes), ManuallyDrop::new(bell));
        let bell_id = sys::file_id(bell.as_fd())?;
        let tools = Tools {
            board: &board,
            lanes: &lanes,
            arena: &Arc::new(arena),
            key: &self.key,
            share: self.share,
            origin_ns: self.origin_ns,
            bell: bell.as_fd(),
        };
        let prepare = self.preparation.map(|function| move || function.run(args));
        let done = worker::work(&tools, self.index, prepare);
        if !sys::is_closed_or_other(bell.as_fd(), bell_id) {
            drop((
                ManuallyDrop::into_inner(lanes),
                ManuallyDrop::into_inner(bell),
            ));
        }
        done
    }
}
