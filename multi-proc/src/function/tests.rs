use super::*;

/// Keeps what came as text.
#[derive(Default)]
struct Said(Vec<String>);

impl Outlet for Said {
    fn take<T: Serialize>(&mut self, returned: Result<T>) {
        self.0.push(match returned {
            Ok(value) => format!("{:?}", postcard::to_stdvec(&value).unwrap()),
            Err(error) => error.to_string(),
        });
    }
}

fn call<A: DeserializeOwned + Serialize, T: Serialize>(
    function: fn(A) -> Result<T>,
    args: &[u8],
) -> String {
    let id = FunctionId::of::<Said, A, T>(function).unwrap();
    let id = FunctionId::from_words(id.to_words());
    let mut said = Said::default();
    // SAFETY: made for the same outlet, in this process.
    unsafe { id.call(args, &mut said) }.unwrap();
    said.0.pop().unwrap()
}

#[test]
fn function_and_closure_without_captures_are_called_with_their_arguments() {
    fn twice(n: u8) -> Result<u8> {
        Ok(2 * n)
    }
    assert_eq!(call(twice, &encode_args(&21_u8).unwrap()), "[42]");
    let args = encode_args(&(String::from("a"), 7_u8)).unwrap();
    let joined = call(|(text, n): (String, u8)| Ok(format!("{text}{n}")), &args);
    assert_eq!(joined, "[2, 97, 55]");
    assert_eq!(call(|()| -> Result { Err("no luck")? }, &[]), "no luck");
}

#[test]
fn arguments_that_cannot_be_decoded_are_an_error_by_name() {
    assert_eq!(
        call(|text: String| Ok(text), &[200]),
        "its arguments, a alloc::string::String, cannot be decoded: Hit the end of buffer, expected more data"
    );
}

#[test]
fn function_of_a_library_is_refused_with_the_remedy() {
    let outside = FunctionError::not_of_the_program(libc_function(), "fn()");
    let text = outside.to_string();
    assert!(text.contains("lies in /") && text.contains(".so"), "{text}");
    assert!(
        text.ends_with("call it from a function of the program"),
        "{text}"
    );
    assert_eq!(Image::here().offset_of(libc_function()), None);
}

/// The address of a function that a shared library has.
fn libc_function() -> usize {
    let mut at = 0;
    image::visit_loaded(&mut |loaded| {
        let text = loaded.segments().find(|segment| segment.is_executable);
        match text {
            Some(text) if loaded.name.to_bytes().contains(&b'/') => {
                at = text.range.start;
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    });
    assert_ne!(at, 0, "no shared library is loaded");
    at
}

#[test]
fn offset_outside_the_code_is_refused() {
    let id = FunctionId::from_words([u64::MAX, 0]);
    // SAFETY: none of its offsets is one of code, so nothing is called.
    let refused = unsafe { id.call(&[], &mut Said::default()) };
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .starts_with("there is no code at offset 0xffff")
    );
}

#[test]
fn seal_breaks_with_every_bit() {
    let key = Key::new().unwrap();
    let id = FunctionId::of::<Said, (), ()>(|()| Ok(())).unwrap();
    let seal = id.seal::<Said>(&key);
    for bit in 0..64 {
        for word in 0..2 {
            let mut words = id.to_words();
            words[word] ^= 1 << bit;
            assert_ne!(FunctionId::from_words(words).seal::<Said>(&key), seal);
        }
    }
    assert_ne!(id.seal::<Said>(&Key::new().unwrap()), seal);
}

#[test]
fn build_is_the_same_at_every_look_and_not_empty() {
    assert_eq!(Image::here().build(), &Image::find().build);
    assert!(Image::here().build().bytes().len() >= 8);
    assert!(!Image::here().text.is_empty());
}

#[test]
fn code_tells_builds_apart_where_the_linker_left_no_id() {
    let mut builds = Vec::new();
    for _ in 0..2 {
        image::visit_loaded(&mut |loaded| {
            builds.push(Build::by_code(loaded));
            // This program and the first library behind it.
            if builds.len() % 2 == 1 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
    }
    assert_eq!(builds[0], builds[2]);
    assert_ne!(builds[0], builds[1]);
}

#[test]
fn build_id_is_found_behind_other_notes() {
    let note = |name: &[u8], kind: u32, contents: &[u8]| {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, contents.len() as u32, kind] {
            bytes.extend(word.to_ne_bytes());
        }
        for part in [name, contents] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    };
    let notes = [
        note(b"GNU\0", 1, &[0; 16]),
        note(b"Go\0", 3, &[1; 5]),
        note(b"GNU\0", 3, &[7; 20]),
    ]
    .concat();
    assert_eq!(build_id(&notes, 4), Some(vec![7; 20]));
    assert_eq!(build_id(&notes[..notes.len() - 1], 4), None);
    assert_eq!(build_id(&[], 4), None);
    assert_eq!(build_id(&[0xff; 64], 4), None);
}
