//! What becomes of a write that power loss catches: nothing, all of it, or some of its sectors.

use highwater_base::prng::Prng;

/// What power loss leaves of one write, in sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    /// Only so many sectors at its front.
    Front(usize),
    /// Only what comes behind so many sectors.
    Rear(usize),
    /// Each sector or not.
    Noise(u64),
    /// One sector comes out as noise, the others arrive: what no device that keeps its promise
    /// does.
    Shredded(u64),
}

impl Fate {
    /// A fate by chance; tearing is the most likely one.
    pub fn random(prng: &mut Prng, sectors: usize) -> Fate {
        match prng.below(6) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 => Fate::Front(prng.below(sectors as u64 + 1) as usize),
            3 => Fate::Rear(prng.below(sectors as u64 + 1) as usize),
            _ => Fate::Noise(prng.next_u64()),
        }
    }

    /// Which of so many sectors arrive.
    pub fn arriving(&self, count: usize) -> Vec<bool> {
        let mut noise = Prng::new(match self {
            Fate::Noise(seed) => *seed,
            _ => 0,
        });
        let arrives = |at: usize| match self {
            Fate::Lost => false,
            Fate::Kept | Fate::Shredded(_) => true,
            Fate::Front(sectors) => at < *sectors,
            Fate::Rear(sectors) => at >= *sectors,
            Fate::Noise(_) => noise.chance(1, 2),
        };
        (0..count).map(arrives).collect()
    }

    /// How many of so many steps, taken one after the other, were done.
    pub fn steps(&self, count: usize) -> usize {
        match self {
            Fate::Lost | Fate::Rear(_) => 0,
            Fate::Kept | Fate::Shredded(_) => count,
            Fate::Front(steps) => count.min(*steps),
            Fate::Noise(seed) => (*seed % (count as u64 + 1)) as usize,
        }
    }
}

/// A write that is not safe, when power is lost.
#[derive(Clone, Copy, Debug)]
pub struct AtRisk<'a> {
    /// The file it went to, by the name it was made under.
    pub path: &'a str,
    pub sectors: usize,
    /// Still under way; otherwise it is in the device's cache.
    pub under_way: bool,
}
