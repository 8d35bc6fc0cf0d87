//! Numbers in less room, while many rows of them wait: instants as 32 bits from the first that can come, degrees of at most seven
//! decimals as whole numbers of the last. Nothing is lost, but for the sign of zero: where one of them does not fit, all stay as they
//! are.

use crate::time::Millis;
use crate::wide::{WHOLE, wide};

/// So many of them are a degree: an angle of 32 bits holds no more decimals.
const PER_DEGREE: f64 = 1e7;

/// Instants from `from` on.
pub fn instants(times: &[Millis], from: Millis) -> Option<Vec<u32>> {
    // All of them at once, whatever the first that does not fit.
    let fits = times.iter().fold(true, |fits, time| fits & u32::try_from(time.wrapping_sub(from)).is_ok());
    fits.then(|| times.iter().map(|time| (time - from) as u32).collect())
}

/// One of [`instants`].
#[inline(always)]
pub fn instant(number: u32, from: Millis) -> Millis {
    from + Millis::from(number)
}

/// Angles, if they are exactly what whole numbers stand for.
pub fn angles(degrees: &[f64]) -> Option<Vec<i32>> {
    let mut numbers = vec![0; degrees.len()];
    let fits = wide(
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
    );
    fits.then_some(numbers)
}

/// One of [`angles`], degrees.
#[inline(always)]
pub fn angle(number: i32) -> f64 {
    f64::from(number) / PER_DEGREE
}
