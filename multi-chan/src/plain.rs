//! What may travel through shared memory.

use bytemuck::Pod;

/// A type that may cross between processes: plain data without pointers, padding or invalid bytes.
///
/// It is implemented for every [`bytemuck::Pod`] type: the integers, the floats, arrays of them, and
/// structs that derive `Pod`. Nothing else needs to be done, and nothing else can be: a pointer, a
/// reference or a `Vec` means nothing in another process, a `bool` or an enum read from memory that
/// others write could hold a value that is none.
///
/// ```
/// use multi_chan::bytemuck::{Pod, Zeroable};
///
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// #[bytemuck(crate = "multi_chan::bytemuck")]
/// #[repr(C)]
/// struct Sample {
///     at_ns: u64,
///     value: f64,
/// }
///
/// let (tx, rx) = multi_chan::channel::<Sample>(16)?;
/// # Ok::<(), multi_chan::Error>(())
/// ```
///
/// Types that hold an address do not compile:
///
/// ```compile_fail,E0277
/// multi_chan::channel::<&'static str>(1);
/// ```
/// ```compile_fail,E0277
/// multi_chan::channel::<Box<u8>>(1);
/// ```
/// ```compile_fail,E0277
/// multi_chan::channel::<Vec<u8>>(1);
/// ```
/// ```compile_fail,E0277
/// multi_chan::channel::<*const u8>(1);
/// ```
/// ```compile_fail,E0277
/// multi_chan::channel::<bool>(1);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross between processes",
    label = "not plain data",
    note = "derive `bytemuck::Pod` and `bytemuck::Zeroable` on a `#[repr(C)]` struct of numbers, or send an index or an encoded form instead"
)]
pub trait Plain: Pod + Send {}

impl<T: Pod + Send> Plain for T {}
