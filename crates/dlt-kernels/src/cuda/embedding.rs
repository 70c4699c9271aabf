//! The gradient of a table's rows.

use super::{Grid, KernelFile, Launch, Machine, Memory, plain, run};
use candle_core::{Result, Tensor};

/// Adds each row of `gradient` to the row of `table` that its id names, in place.
pub fn embedding_gradient(
    machine: &dyn Machine,
    table: &Tensor,
    ids: &[u32],
    gradient: &Tensor,
) -> Result<()> {
    let [gradient] = plain([gradient])?;
    let width = table.dim(1)?;
    // A block of the kernel has one row of the table: grouped by id, no two blocks write the same.
    let Grouped { ids, starts, places } = Grouped::of(ids);
    let rows = ids.len();

    let upload = |numbers: Vec<u32>| {
        let count = numbers.len();
        Tensor::from_vec(numbers, count, table.device())
    };

    let ids = upload(ids)?;
    let starts = upload(starts)?;
    let places = upload(places)?;
    let grid = Grid::TableRows { rows, width };
    let launch = Launch::new(KernelFile::Embedding, "embedding_gradient", gradient.dtype(), grid)?;

    let read = [&gradient, &ids, &starts, &places].map(Memory::Read);
    run(machine, &launch.with_sizes([width])?, &[&[Memory::Write(table)], &read[..]].concat())
}

/// Rows of a gradient, grouped by id.
struct Grouped {
    /// Each id, once.
    ids: Vec<u32>,
    /// For each id, where its rows begin in `places`; last, where they end.
    starts: Vec<u32>,
    /// Numbers of rows in the order of ids. Rows of one id stay in their order, so that sums have
    /// the bits of the loops on the CPU.
    places: Vec<u32>,
}

impl Grouped {
    fn of(all: &[u32]) -> Self {
        let mut places: Vec<u32> = (0..all.len() as u32).collect();
        // The sort is stable.
        places.sort_by_key(|&place| all[place as usize]);

        let mut ids = Vec::new();
        let mut starts = Vec::new();

        for (at, &place) in places.iter().enumerate() {
            let id = all[place as usize];
            if ids.last() != Some(&id) {
                ids.push(id);
                starts.push(at as u32);
            }
        }

        starts.push(all.len() as u32);
        Grouped { ids, starts, places }
    }
}
