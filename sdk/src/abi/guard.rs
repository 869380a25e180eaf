//! Catching panics where the boundary is crossed.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` and gives its result, or the text of its panic.
///
/// # Errors
/// What the panic said.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // Whatever the panic left half done belongs to the plugin, which decides whether it can go on.
    catch_unwind(AssertUnwindSafe(work)).map_err(text_of)
}

fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "its payload is no text".to_owned(),
    };
    // A payload may panic when it is dropped; what it throws then is leaked, which ends the chain.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn a_panic_becomes_its_text() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(guarded(|| panic!("plain")), Err::<(), _>("plain".into()));
        assert_eq!(guarded(|| panic!("n = {}", 1)), Err::<(), _>("n = 1".into()));
        let odd = guarded(|| std::panic::panic_any(7_u8));
        assert_eq!(odd, Err::<(), _>("its payload is no text".into()));
    }

    #[test]
    fn a_payload_that_panics_on_drop_is_leaked() {
        let odd = guarded(|| std::panic::panic_any(Bomb));
        assert_eq!(odd, Err::<(), _>("its payload is no text".into()));
    }
}
