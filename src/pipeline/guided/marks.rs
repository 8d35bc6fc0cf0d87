//! Which blocks of a day may hold what is looked for, as far as their guide tells.

use super::Day;
use crate::error::Result;
use crate::io::blocks::area;
use crate::io::guide::Visit;
use crate::place::region::Region;
use crate::time::Millis;
use rayon::prelude::*;

/// Twigs that a thread looks at, at least.
const TWIGS_MIN: usize = 16;

/// Which blocks of a day are wanted.
pub struct Marks(pub Vec<bool>);

impl Marks {
    pub fn none(day: &Day) -> Self {
        Marks(vec![false; day.tree.count()])
    }

    pub fn all(day: &Day) -> Self {
        Marks(vec![true; day.tree.count()])
    }

    /// The blocks that may hold something of a region.
    pub fn near(day: &Day, region: &Region) -> Result<Self> {
        let touches = |bounds: [f32; 4], times: (Millis, Millis)| {
            region.may_touch(bounds, times) && region.touches(&area(bounds), times)
        };
        let twigs = day.tree.twigs();
        let near = |twig: &usize| touches(twigs[*twig].bounds, twigs[*twig].times);
        let near: Vec<usize> =
            (0..twigs.len()).into_par_iter().with_min_len(TWIGS_MIN).filter(near).collect();
        let blocks = day.tree.read(&near)?;
        let within = |twig: &usize| {
            let own = twigs[*twig].blocks.clone();
            own.filter(|block| touches(blocks.bounds(*block), blocks.times(*block)))
        };
        let found: Vec<usize> = near.par_iter().with_min_len(TWIGS_MIN).flat_map_iter(within).collect();
        let mut marks = Marks::none(day);
        found.into_iter().for_each(|block| marks.0[block] = true);
        Ok(marks)
    }

    /// The blocks that may hold a row of one of some cells, at a time of each.
    pub fn at(day: &Day, cells: &[(u64, (Millis, Millis))]) -> Result<Self> {
        let (tree, twigs) = (&day.tree, day.tree.twigs());
        let overlap = |a: (Millis, Millis), b: (Millis, Millis)| a.0 <= b.1 && b.0 <= a.1;
        let mut found = Vec::new();
        for (cell, times) in cells {
            for file in 0..day.files.len() {
                let own =
                    tree.twigs_with_cell(file, *cell).filter(|twig| overlap(twigs[*twig].times, *times));
                found.extend(own.map(|twig| (twig, *cell, *times)));
            }
        }
        let blocks = tree.read(&found.iter().map(|(twig, ..)| *twig).collect::<Vec<_>>())?;
        let mut marks = Marks::none(day);
        for (twig, cell, times) in found {
            for block in blocks.with_cell(twigs[twig].blocks.clone(), cell) {
                marks.0[block] |= overlap(blocks.times(block), times);
            }
        }
        Ok(marks)
    }
}

/// A visit as far as it is within times that are wanted.
pub fn within(
    visit: Visit,
    windows: Option<&Vec<(Millis, Millis)>>,
) -> impl Iterator<Item = (u64, (Millis, Millis))> {
    let windows = windows.into_iter().flatten();
    let times = windows.map(move |(from, to)| (visit.from.max(*from), visit.to.min(*to)));
    times.filter(|(from, to)| from <= to).map(move |times| (visit.cell, times))
}
