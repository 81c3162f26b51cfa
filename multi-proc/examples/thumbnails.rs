//! Pictures of a folder made smaller, a process each: progress while it works, a summary at the end, and a damaged picture costs nothing
//! but itself. Without a folder it makes one with a dozen pictures, one of them damaged, and removes it again.
//!
//! `cargo run -p multi-proc --example thumbnails -- FOLDER` reads its `*.ppm` (binary, 8 bits) and writes `*.small.ppm` beside them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example speaks to its reader"
)]
#![expect(
    unsafe_code,
    reason = "a group that forks is made by an unsafe constructor"
)]

use multi_proc::{Group, Result, TaskOptions, WaitTimeoutError};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much smaller, in each direction.
const FACTOR: usize = 4;

/// Rows of red, green and blue.
struct Picture {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Picture {
    /// Reads `P6 WIDTH HEIGHT 255` and the bytes, see ppm(5); comments are not understood.
    fn read(path: &Path) -> Result<Self> {
        let file = fs::read(path)?;
        let mut parts = file.splitn(5, u8::is_ascii_whitespace);
        let mut number = || -> Result<usize> {
            let word = parts.next().ok_or("the header is cut short")?;
            Ok(str::from_utf8(word.strip_prefix(b"P").unwrap_or(word))?.parse()?)
        };
        let [kind, width, height, depth] = [number()?, number()?, number()?, number()?];
        if (kind, depth) != (6, 255) {
            return Err("not a binary picture of 8 bits".into());
        }
        let bytes = parts.next().unwrap_or_default().to_vec();
        if bytes.len() != width * height * 3 {
            return Err(format!(
                "{} bytes of picture, where {width} × {height} have another number",
                bytes.len()
            )
            .into());
        }
        Ok(Self {
            width,
            height,
            bytes,
        })
    }

    fn write(&self, path: &Path) -> Result {
        let header = format!("P6\n{} {}\n255\n", self.width, self.height);
        Ok(fs::write(path, [header.as_bytes(), &self.bytes].concat())?)
    }

    /// Each pixel is the mean of a square of [`FACTOR`] × [`FACTOR`].
    fn smaller(&self) -> Self {
        let (width, height) = (self.width / FACTOR, self.height / FACTOR);
        let byte = |x: usize, y: usize, colour: usize| {
            let square =
                (0..FACTOR * FACTOR).map(|at| (x * FACTOR + at % FACTOR, y * FACTOR + at / FACTOR));
            let sum: usize = square
                .map(|(x, y)| usize::from(self.bytes[(y * self.width + x) * 3 + colour]))
                .sum();
            (sum / (FACTOR * FACTOR)) as u8
        };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes = places
            .flat_map(|(x, y)| [0, 1, 2].map(|colour| byte(x, y, colour)))
            .collect();
        Self {
            width,
            height,
            bytes,
        }
    }
}

/// The work of one process: returns how many bytes it saved.
fn shrink(path: &Path) -> Result<u64> {
    let picture = Picture::read(path)?;
    let small = picture.smaller();
    small.write(&path.with_extension("small.ppm"))?;
    Ok((picture.bytes.len() - small.bytes.len()) as u64)
}

fn shrink_all(folder: &Path) -> Result {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| {
        path.to_str()
            .is_some_and(|path| path.ends_with(".ppm") && !path.ends_with(".small.ppm"))
    });
    paths.sort();
    let builder = Group::builder().limit(std::thread::available_parallelism()?.get());
    // SAFETY: this program has one thread.
    let mut group = unsafe { builder.fork() }?;
    let count = paths.len() as u64;
    let progress = |group: &Group| {
        let progress = group.progress();
        eprint!(
            "\r{} of {count} pictures, {} failed",
            progress.finished, progress.failed
        );
    };
    let mut pictures = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        pictures.push(group.spawn_with(TaskOptions::new().name(name), move || shrink(&path)));
        progress(&group);
    }
    while let Err(WaitTimeoutError::StillRunning(_)) =
        group.wait_timeout(Duration::from_millis(100))
    {
        progress(&group);
    }
    progress(&group);
    eprintln!();

    let (mut done, mut saved) = (0, 0);
    for picture in pictures {
        match picture.join() {
            Ok(bytes) => (done, saved) = (done + 1, saved + bytes),
            Err(error) => println!("{error}"),
        }
    }
    println!(
        "{done} of {count} pictures made smaller, {} KiB saved",
        saved / 1024
    );
    println!(
        "the largest process had {} MiB",
        group.usage().peak_bytes >> 20
    );
    Ok(())
}

/// A dozen pictures, one of which ends too early.
fn fill(folder: &Path) -> Result {
    for n in 0..12 {
        let (width, height) = (400 + 40 * n, 300);
        let bytes = (0..width * height * 3).map(|at| (at * (n + 1) / 7) as u8);
        let missing = if n == 7 { 1000 } else { 0 };
        let bytes = bytes.skip(missing).collect();
        Picture {
            width,
            height,
            bytes,
        }
        .write(&folder.join(format!("picture {n:02}.ppm")))?;
    }
    Ok(())
}

fn main() -> Result {
    if let Some(folder) = std::env::args_os().nth(1) {
        return shrink_all(Path::new(&folder));
    }
    let folder = std::env::temp_dir().join(format!("multi-thumbnails-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let outcome = fill(&folder).and_then(|()| shrink_all(&folder));
    fs::remove_dir_all(&folder)?;
    outcome
}
