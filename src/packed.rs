//! Numbers in less room, while many rows of them wait: instants as 32 bits from the first that can come, degrees of at most seven
//! decimals as whole numbers of the last. Nothing is lost, but for the sign of zero: where one of them does not fit, all stay as they
//! are.

use crate::time::Millis;
use crate::wide::{WHOLE, wide};

/// So many of them are a degree: an angle of 32 bits holds no more decimals.
const PER_DEGREE: f64 = 1e7;

/// Instants from `from` on.
pub fn instants(times: &[Millis], from: Millis) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    pack_instants(times, from, &mut numbers).then_some(numbers)
}

/// The same in the place of what `numbers` held. Says whether all fit.
pub fn pack_instants(times: &[Millis], from: Millis, numbers: &mut Vec<u32>) -> bool {
    numbers.clear();
    numbers.resize(times.len(), 0);
    wide(
        #[inline(always)]
        || {
            // All of them at once, whatever the first that does not fit.
            let mut high = 0;
            for (number, time) in numbers.iter_mut().zip(times) {
                let since = time.wrapping_sub(from) as u64;
                *number = since as u32;
                high |= since >> 32;
            }
            high == 0
        },
    )
}

/// One of [`instants`].
#[inline(always)]
pub fn instant(number: u32, from: Millis) -> Millis {
    from + Millis::from(number)
}

/// Angles, if they are exactly what whole numbers stand for.
pub fn angles(degrees: &[f64]) -> Option<Vec<i32>> {
    let mut numbers = Vec::new();
    pack_angles(degrees, &mut numbers).then_some(numbers)
}

/// The same in the place of what `numbers` held. Says whether all fit.
pub fn pack_angles(degrees: &[f64], numbers: &mut Vec<i32>) -> bool {
    numbers.clear();
    numbers.resize(degrees.len(), 0);
    wide(
        #[inline(always)]
        || {
            let mut fits = true;
            for (number, degrees) in numbers.iter_mut().zip(degrees) {
                // To the nearest; the low bits of the sum are that number.
                *number = (degrees * PER_DEGREE + WHOLE).to_bits() as i32;
                fits &= angle(*number) == *degrees;
            }
            fits
        },
    )
}

/// One of [`angles`], degrees.
#[inline(always)]
pub fn angle(number: i32) -> f64 {
    f64::from(number) / PER_DEGREE
}
