//! Loops over many numbers, in the widest steps that the machine has: they are compiled for several kinds of machines, and
//! what they give is the same on any.

/// Numbers that are looked at together, where a loop needs room between its steps.
pub const BLOCK: usize = 256;

/// Does work in the widest steps; what it calls has to be inlined into it, or is compiled for any machine.
#[inline(always)]
pub fn wide<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Whole numbers stand one apart here, so that adding rounds to one, whose low bits they are.
pub const WHOLE: f64 = (3u64 << 51) as f64;

/// A whole number that is not negative, and smaller than 2^51; another number's nearest.
#[inline]
pub fn whole(x: f64) -> u64 {
    (x + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits())
}

/// A whole number that is not negative, and smaller than 2^51, in steps that are wide on any machine.
#[inline]
pub fn float(x: u64) -> f64 {
    f64::from_bits(x.wrapping_add(WHOLE.to_bits())) - WHOLE
}

/// The floor of a number within 2^50 of zero; of a whole number it may be the one below, always the same.
#[inline]
pub fn floor(x: f64) -> f64 {
    (x - 0.5 + WHOLE) - WHOLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_the_same_as_floats() {
        for number in [0, 1, 2, 255, 900_000, (1 << 50) - 1, 1 << 50, (1 << 51) - 1] {
            assert_eq!(float(number), number as f64);
            assert_eq!(whole(float(number)), number);
        }
    }
}
