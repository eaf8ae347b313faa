//! Randomness of the system that a test can repeat.
//!
//! A simulation should have one source of randomness, its seed. But the standard library's hash maps and
//! tokio ask the system: for the order of a map, for the first branch of a `select!`, for the first of
//! several tasks that wait for one channel. The standard library has no setting for this, and tokio has
//! one only with `--cfg tokio_unstable`, which needs a second build of everything. So two runs of one
//! seed differ. On Linux both call the C library's `getrandom`. This crate replaces that function in the
//! program: until [`seed`] is called, it does the same; afterwards it returns numbers from the seed.
//!
//! For tests only: after [`seed`] the numbers are no secrets.

#![cfg_attr(
    not(target_os = "linux"),
    doc = "On this system `seed` does nothing: runs of one seed may differ."
)]

use std::cell::Cell;
use std::sync::OnceLock;

static SEED: OnceLock<u64> = OnceLock::new();

thread_local! {
    /// The count of numbers that this thread has drawn. Each thread has its own sequence, so the order
    /// in which threads draw makes no difference.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// Gives every thread of this process that asks the system for randomness the sequence of `seed` from now
/// on. Existing threads may have asked before, so run repeatable code on a new thread. Only the first call
/// has an effect.
pub fn seed(seed: u64) {
    SEED.get_or_init(|| seed);
}

/// The next number of this thread's sequence (SplitMix64).
#[cfg_attr(not(target_os = "linux"), expect(dead_code))]
fn draw(seed: u64) -> u64 {
    let count = DRAWN.get().wrapping_add(1);
    DRAWN.set(count);
    let z = seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::Read as _;

    /// Replaces the function of the C library: fills `len` bytes at `buf`, and returns the number of
    /// filled bytes, or -1.
    ///
    /// # Safety
    ///
    /// `buf` points to `len` bytes that may be written.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buf: *mut u8, len: usize, _flags: u32) -> isize {
        if len == 0 {
            return 0;
        }
        // SAFETY: the caller's promise. The bytes are initialised first, as a slice has to be.
        let bytes = unsafe {
            buf.write_bytes(0, len);
            std::slice::from_raw_parts_mut(buf, len)
        };
        match super::SEED.get() {
            Some(&seed) => {
                for part in bytes.chunks_mut(8) {
                    let drawn = super::draw(seed).to_le_bytes();
                    part.copy_from_slice(&drawn[..part.len()]);
                }
            }
            None => {
                let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes));
                if read.is_err() {
                    return -1;
                }
            }
        }
        isize::try_from(len).unwrap_or(-1)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};
    use std::thread;

    fn drawn() -> u64 {
        let thread = thread::spawn(|| RandomState::new().hash_one(1));
        thread.join().expect("no panic")
    }

    #[test]
    fn hashes_are_random_until_there_is_a_seed() {
        assert_ne!(drawn(), drawn());
        super::seed(1);
        assert_eq!(drawn(), drawn());
    }
}
