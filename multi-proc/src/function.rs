//! Functions that another process of the same program can call: what travels is where they lie in its image.
//!
//! A function and its arguments take three numbers and some bytes: the places of the function and of a *runner*, which knows the types of
//! both, as offsets from where the image was loaded, and the arguments as serde writes them. Another process may have the image
//! elsewhere, so the offsets are counted from there again; it must be the very same [`Build`], or they mean something else.
//!
//! A `fn` pointer is what a function is here. A closure that captures nothing becomes one by itself, one that captures does not compile:
//! what it captures would stay behind.

#![expect(
    unsafe_code,
    reason = "a number becomes a function again, where it was one in the same image"
)]

use crate::pool;
use crate::sync::{AtomicPtr, Ordering};
use crate::sys::{self, image};
use multi_core::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::mem::transmute;
use std::ops::{ControlFlow, Range};
use std::ptr;

/// The program's own image in this process.
pub(crate) struct Image {
    base: usize,
    text: Vec<Range<usize>>,
    build: Build,
}

/// What tells one build of a program from every other: the linker's build id where there is one, else a hash of the code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build(Vec<u8>);

impl Image {
    /// The image of this process. Found once; the first time takes the loader's lock, so not for a forked child.
    pub(crate) fn here() -> &'static Self {
        static IMAGE: AtomicPtr<Image> = AtomicPtr::new(ptr::null_mut());
        // Acquire: the image is whole before it is published. Pairs with the exchange below.
        let known = IMAGE.load(Ordering::Acquire);
        // No `OnceLock`: a fork in the middle of one would leave it so for ever in the child.
        let known = if known.is_null() {
            let mine = Box::into_raw(Box::new(Self::find()));
            // AcqRel, Acquire: publishes the image to, or takes it from, the load above.
            match IMAGE.compare_exchange(ptr::null_mut(), mine, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => mine,
                Err(theirs) => {
                    // SAFETY: came from `Box::into_raw` and was not published.
                    drop(unsafe { Box::from_raw(mine) });
                    theirs
                }
            }
        } else {
            known
        };
        // SAFETY: published whole and never freed.
        unsafe { &*known }
    }

    fn find() -> Self {
        let mut found = None;
        image::visit_loaded(&mut |program| {
            found = Some(Self {
                base: program.base,
                text: program
                    .segments()
                    .filter(|segment| segment.is_executable)
                    .map(|segment| segment.range)
                    .collect(),
                build: Build::of(program),
            });
            // The program itself is the first.
            ControlFlow::Break(())
        });
        // A loader that says nothing: no function is found in it.
        found.unwrap_or(Self {
            base: 0,
            text: Vec::new(),
            build: Build(Vec::new()),
        })
    }

    pub(crate) fn build(&self) -> &Build {
        &self.build
    }

    fn offset_of(&self, address: usize) -> Option<u64> {
        self.has(address).then(|| (address - self.base) as u64)
    }

    fn address_of(&self, offset: u64) -> Option<usize> {
        let offset = usize::try_from(offset).ok()?;
        let address = self.base.checked_add(offset)?;
        self.has(address).then_some(address)
    }

    fn has(&self, address: usize) -> bool {
        self.text.iter().any(|range| range.contains(&address))
    }
}

impl Build {
    fn of(program: &image::Loaded<'_>) -> Self {
        let noted = program
            .segments()
            .filter(|segment| segment.is_note)
            .find_map(|segment| build_id(segment.bytes?, segment.align));
        noted.map_or_else(|| Self::by_code(program), Self)
    }

    /// Where the linker left no id. Reads all of the code, once.
    fn by_code(program: &image::Loaded<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        for segment in program.segments().filter(|segment| segment.is_executable) {
            hasher.write_usize(segment.range.len());
            hasher.write(segment.bytes.unwrap_or_default());
        }
        Self(hasher.finish().to_be_bytes().to_vec())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The id in the notes of an ELF file, elf(5): entries of three words (length of the name, of the contents, kind), name, contents.
fn build_id(notes: &[u8], align: usize) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let align = if align == 8 { 8 } else { 4 };
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).ok();
    let mut rest = notes;
    loop {
        let name_len = word(rest.get(0..4)?)? as usize;
        let contents_len = word(rest.get(4..8)?)? as usize;
        let kind = word(rest.get(8..12)?)?;
        let name = rest.get(12..)?.get(..name_len)?;
        let contents_at = (12 + name_len).next_multiple_of(align);
        let contents = rest.get(contents_at..)?.get(..contents_len)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && !contents.is_empty() {
            return Some(contents.to_vec());
        }
        rest = rest.get((contents_at + contents_len).next_multiple_of(align)..)?;
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("unknown");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Build({self})")
    }
}

/// Takes what a function returned to where it is wanted, whatever its type: encodes it into shared memory, say.
pub(crate) trait Outlet {
    /// Called once for each call, on the thread that called, with arguments that could not be decoded as an error, too. A panic of the
    /// function or of its arguments passes it by.
    fn take<T: Serialize>(&mut self, returned: Result<T>);
}

/// A function of this program and the code that knows its types, for an outlet of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FunctionId {
    function: u64,
    runner: u64,
}

/// `runner(function, args, outlet)`. Each is [`run`] for some `A` and `T`; `function` is the address of a `fn(A) -> Result<T>`.
type Runner<O> = unsafe fn(usize, &[u8], &mut O);

impl FunctionId {
    /// Names `function`, to be called by [`call`](Self::call) with an outlet of type `O`.
    ///
    /// # Errors
    ///
    /// It lies in a shared library.
    pub(crate) fn of<O, A, T>(function: fn(A) -> Result<T>) -> Result<Self, FunctionError>
    where
        O: Outlet,
        A: DeserializeOwned,
        T: Serialize,
    {
        let image = Image::here();
        let runner: Runner<O> = run::<O, A, T>;
        let offset = |address: usize| {
            let not_ours =
                || FunctionError::not_of_the_program(address, type_name::<fn(A) -> Result<T>>());
            image.offset_of(address).ok_or_else(not_ours)
        };
        Ok(Self {
            function: offset(function as usize)?,
            runner: offset(runner as usize)?,
        })
    }

    /// Calls the function here, with arguments as serde wrote them.
    ///
    /// # Errors
    ///
    /// There is no code where the function should be; nothing was called.
    ///
    /// # Safety
    ///
    /// `self` was made by [`of`](Self::of) for the same `O`, in a process of the same [`Build`], and is what was made there: it came
    /// through the kernel, or under a [`seal`](Self::seal).
    pub(crate) unsafe fn call<O: Outlet>(
        self,
        args: &[u8],
        outlet: &mut O,
    ) -> Result<(), FunctionError> {
        let image = Image::here();
        let address = |offset| {
            let nothing_there = || {
                FunctionError(format!(
                    "there is no code at offset {offset:#x} of this program"
                ))
            };
            image.address_of(offset).ok_or_else(nothing_there)
        };
        let function = address(self.function)?;
        let runner = ptr::with_exposed_provenance::<()>(address(self.runner)?);
        // SAFETY: the caller says that this offset was taken from a `Runner<O>` in the same image; within its code it certainly is.
        let runner = unsafe { transmute::<*const (), Runner<O>>(runner) };
        // SAFETY: the two were made together, so that the runner knows the function's types.
        unsafe { runner(function, args, outlet) };
        Ok(())
    }

    /// A number that only `key` gives to this function and outlet: set beside it where something may write over both.
    pub(crate) fn seal<O: Outlet>(self, key: &Key) -> u64 {
        let mut hasher = DefaultHasher::new();
        for word in key.0.into_iter().chain([self.function, self.runner]) {
            hasher.write_u64(word);
        }
        hasher.write(type_name::<O>().as_bytes());
        hasher.finish()
    }

    /// The two numbers of a function, for what is not written by serde.
    pub(crate) fn to_words(self) -> [u64; 2] {
        [self.function, self.runner]
    }

    /// As [`to_words`](Self::to_words) made them.
    pub(crate) fn from_words([function, runner]: [u64; 2]) -> Self {
        Self { function, runner }
    }
}

/// What seals functions in memory that several processes write to. It guards against damage, not against a process that has the key.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Key([u64; 2]);

impl Key {
    /// A key of the kernel's making. Make it before the processes that share it.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self([sys::random()?, sys::random()?]))
    }

    /// A number that only this key gives to `parts`.
    pub(crate) fn seal(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.iter().for_each(|word| hasher.write_u64(*word));
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The runner of all functions from `A` to `T`.
///
/// # Safety
///
/// `function` is the address of a `fn(A) -> Result<T>` in this process.
unsafe fn run<O, A, T>(function: usize, args: &[u8], outlet: &mut O)
where
    O: Outlet,
    A: DeserializeOwned,
    T: Serialize,
{
    let function = ptr::with_exposed_provenance::<()>(function);
    // SAFETY: the caller says what it is the address of.
    let function = unsafe { transmute::<*const (), fn(A) -> Result<T>>(function) };
    let returned = match pool::explained(|| postcard::from_bytes(args)) {
        Ok(args) => function(args),
        Err((_, why)) => Err(ArgsError::new::<A>("be decoded", why).into()),
    };
    outlet.take(returned);
}

/// Arguments on their way to a function.
///
/// # Errors
///
/// Their own `Serialize` refuses, or a type that postcard does not know.
pub(crate) fn encode_args<A: Serialize>(args: &A) -> Result<Vec<u8>, ArgsError> {
    pool::explained(|| postcard::to_stdvec(args))
        .map_err(|(_, why)| ArgsError::new::<A>("be encoded", why))
}

/// Arguments that do not survive the way to their function.
#[derive(Debug)]
pub(crate) struct ArgsError {
    type_name: &'static str,
    cannot: &'static str,
    why: String,
}

impl ArgsError {
    fn new<A>(cannot: &'static str, why: String) -> Self {
        Self {
            type_name: type_name::<A>(),
            cannot,
            why,
        }
    }
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its arguments, a {}, cannot {}: {}",
            self.type_name, self.cannot, self.why
        )
    }
}

impl Error for ArgsError {}

/// A function that another process could not find.
#[derive(Clone, Debug)]
pub(crate) struct FunctionError(String);

impl FunctionError {
    #[cold]
    fn not_of_the_program(address: usize, type_name: &str) -> Self {
        let mut library = None;
        image::visit_loaded(&mut |loaded| {
            let is_here = |segment: image::Segment<'_>| segment.range.contains(&address);
            if loaded.segments().any(is_here) {
                library = Some(loaded.name.to_string_lossy().into_owned());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let library = library.unwrap_or_else(|| "no file".into());
        Self(format!(
            "the function, a {type_name}, lies in {library}, not in the program itself, and another process may have that elsewhere or not \
             at all; call it from a function of the program"
        ))
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for FunctionError {}

#[cfg(test)]
mod tests;
