//! Draws that hang on nothing but their numbers, so that any of them can be made first.

/// 2^64 divided by the golden ratio, made odd: the step of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Numbered draws of 64 even bits.
#[derive(Debug, Clone, Copy)]
pub struct Stream(u64);

impl Stream {
    /// The stream that all others come from.
    pub fn of_seed(seed: u64) -> Self {
        Stream(mix(seed ^ GOLDEN))
    }

    /// A draw.
    #[inline]
    pub fn draw(self, number: u64) -> u64 {
        mix(self.0.wrapping_add(number.wrapping_mul(GOLDEN)))
    }

    /// A stream of its own; its number is not used for a draw as well.
    #[inline]
    pub fn stream(self, number: u64) -> Stream {
        Stream(self.draw(number))
    }
}

/// A draw as a whole number in [0, n).
#[inline]
pub fn below(draw: u64, n: u64) -> u64 {
    ((u128::from(draw) * u128::from(n)) >> 64) as u64
}

/// A draw as a number in [0, 1).
#[inline]
pub fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

/// log2 of the quantiles of the normal distribution that are held.
pub const QUANTILES_LOG2: u32 = 11;
/// The normal distribution ends here, on both sides.
pub const SIGMAS_MAX: f64 = 4.0;

/// The standard normal distribution, from its quantiles: straight lines between 2,049 of them, cut off
/// at four standard deviations.
#[derive(Debug)]
pub struct Normal {
    quantiles: Box<[f32; (1 << QUANTILES_LOG2) + 1]>,
}

impl Default for Normal {
    fn default() -> Self {
        Self::new()
    }
}

impl Normal {
    /// The quantiles z(p), from dz/dp = sqrt(2 pi) exp(z^2 / 2) and z(1/2) = 0 by the classical
    /// Runge-Kutta method.
    pub fn new() -> Self {
        const HALF: usize = 1 << (QUANTILES_LOG2 - 1);
        const STEPS: usize = 32;
        let slope = |z: f64| std::f64::consts::TAU.sqrt() * (z * z / 2.0).exp();
        let step = 1.0 / (2 * HALF * STEPS) as f64;
        let mut upper = vec![0.0];
        let mut z = 0.0;
        for _ in 1..HALF {
            for _ in 0..STEPS {
                let a = slope(z);
                let b = slope(z + step / 2.0 * a);
                let c = slope(z + step / 2.0 * b);
                let d = slope(z + step * c);
                z += step / 6.0 * (a + 2.0 * b + 2.0 * c + d);
            }
            upper.push(z);
        }
        upper.push(SIGMAS_MAX);
        let at = |i: usize| if i < HALF { -upper[HALF - i] } else { upper[i - HALF] };
        Normal { quantiles: Box::new(std::array::from_fn(|i| at(i) as f32)) }
    }

    /// A draw of 32 bits as a standard normal number.
    #[inline]
    pub fn at(&self, draw: u32) -> f64 {
        const REST: u32 = 32 - QUANTILES_LOG2;
        let i = (draw >> REST) as usize;
        let share = (draw & ((1 << REST) - 1)) as f32 / (1u32 << REST) as f32;
        f64::from(self.quantiles[i] + (self.quantiles[i + 1] - self.quantiles[i]) * share)
    }

    /// A draw of 64 bits as two standard normal numbers.
    #[inline]
    pub fn pair(&self, draw: u64) -> (f64, f64) {
        (self.at((draw >> 32) as u32), self.at(draw as u32))
    }
}

/// A shuffled order of the numbers below `n`, each found by itself: a Feistel network over pairs
/// (left, right) that make up a number, walked on where it leads out of the range (Black and Rogaway,
/// "Ciphers with arbitrary finite domains", 2002).
#[derive(Debug)]
pub struct Shuffle {
    n: u64,
    lefts: u64,
    rights: u64,
    rounds: [Stream; 4],
}

impl Shuffle {
    /// An order of the numbers below `n`.
    pub fn new(n: u64, draws: Stream) -> Self {
        let lefts = ((n as f64).sqrt().ceil() as u64).max(1);
        let rounds = [0, 1, 2, 3].map(|round| draws.stream(round));
        Shuffle { n, lefts, rights: n.div_ceil(lefts).max(1), rounds }
    }

    /// The number that stands at a place below `n`.
    #[inline]
    pub fn at(&self, place: u64) -> u64 {
        let turned = |value: u64, by: u64, n: u64| {
            let sum = value + by;
            if sum >= n { sum - n } else { sum }
        };
        let mut number = place;
        loop {
            let (mut right, mut left) = (number / self.lefts, number % self.lefts);
            for rounds in self.rounds.as_chunks::<2>().0 {
                left = turned(left, below(rounds[0].draw(right), self.lefts), self.lefts);
                right = turned(right, below(rounds[1].draw(left), self.rights), self.rights);
            }
            number = right * self.lefts + left;
            if number < self.n {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_has_every_number_once() {
        for n in [1, 2, 3, 10, 97, 1_000, 12_345] {
            let shuffle = Shuffle::new(n, Stream::of_seed(n));
            let mut numbers: Vec<u64> = (0..n).map(|place| shuffle.at(place)).collect();
            let moved = numbers.iter().enumerate().filter(|(place, number)| *place as u64 != **number);
            assert!(n < 10 || moved.count() as u64 > n / 2);
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..n));
        }
    }

    #[test]
    fn the_normal_distribution_is_normal() {
        let (normal, draws) = (Normal::new(), Stream::of_seed(3));
        // z(0.975) and z(0.8413447) of any table.
        assert!((normal.at((0.975 * 2f64.powi(32)) as u32) - 1.959_964).abs() < 1e-3);
        assert!((normal.at((0.841_344_746 * 2f64.powi(32)) as u32) - 1.0).abs() < 1e-4);
        let n = 200_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for number in 0..n / 2 {
            let (a, b) = normal.pair(draws.draw(number));
            sum += a + b;
            squares += a * a + b * b;
        }
        assert!((sum / n as f64).abs() < 0.01, "{sum}");
        assert!((squares / n as f64 - 1.0).abs() < 0.01, "{squares}");
    }
}
