//! Customers and terminals on a map: who pays how much, how often, and where.
//!
//! The map, the ranges and the fraud patterns follow the published description of the simulator in
//! Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud
//! Detection", ULB, 2022.

use super::random::Random;

/// The map is a square of this side.
const SIDE: f64 = 100.0;
/// A customer pays at terminals no farther than this.
const REACH: f64 = 5.0;
/// Cells of the side [`REACH`] along one side of the map.
const CELLS: usize = 20;
/// A customer's mean amount lies in this range, in pounds; the deviation is half the mean.
const MEAN_AMOUNT: (f64, f64) = (5.0, 100.0);
/// A customer pays up to so often a day, on average.
const PAYMENTS_A_DAY_MAX: f64 = 4.0;
/// Draws among the terminals around before a customer stays at home after all.
const TRIES_MAX: u32 = 10_000;

/// A point on the map.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: f64,
    y: f64,
}

/// Someone who pays.
#[derive(Clone, Copy, Debug)]
pub struct Customer {
    place: Place,
    /// In pounds.
    pub mean_amount: f64,
    /// On average.
    pub payments_a_day: f64,
}

/// Everyone, and every terminal.
pub struct World {
    /// By number.
    pub customers: Vec<Customer>,
    terminals: Vec<Place>,
    /// The terminals of each cell.
    cells: Vec<Vec<u32>>,
}

impl Place {
    fn random(random: &mut Random) -> Self {
        Self { x: random.between(0.0, SIDE), y: random.between(0.0, SIDE) }
    }

    fn reaches(self, other: Self) -> bool {
        let (x, y) = (self.x - other.x, self.y - other.y);
        x * x + y * y <= REACH * REACH
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the map: 0 to 19
    fn cell(self) -> (usize, usize) {
        ((self.x / REACH) as usize, (self.y / REACH) as usize)
    }
}

impl World {
    /// Makes a world; a customer with no terminal in reach stays at home.
    pub fn new(customers: u32, terminals: u32, random: &mut Random) -> Self {
        let terminals: Vec<_> = (0..terminals).map(|_| Place::random(random)).collect();
        let mut cells = vec![Vec::new(); CELLS * CELLS];
        for (number, place) in (0..).zip(&terminals) {
            let (column, row) = place.cell();
            if let Some(cell) = cells.get_mut(column * CELLS + row) {
                cell.push(number);
            }
        }
        let mut world = Self { customers: Vec::new(), terminals, cells };
        for _ in 0..customers {
            let place = Place::random(random);
            let (min, max) = MEAN_AMOUNT;
            let mean_amount = random.between(min, max);
            let payments_a_day = random.between(0.0, PAYMENTS_A_DAY_MAX);
            let leaves = world.around(place).any(|terminal| world.is_at(place, terminal));
            let payments_a_day = if leaves { payments_a_day } else { 0.0 };
            world.customers.push(Customer { place, mean_amount, payments_a_day });
        }
        world
    }

    /// How many terminals there are.
    pub fn terminals(&self) -> usize {
        self.terminals.len()
    }

    /// One of the terminals in this customer's reach, each as likely as any other.
    pub fn terminal_near(&self, customer: &Customer, random: &mut Random) -> Option<u32> {
        let count = self.around(customer.place).count();
        for _ in 0..TRIES_MAX {
            let terminal = self.around(customer.place).nth(random.below(count))?;
            if self.is_at(customer.place, terminal) {
                return Some(terminal);
            }
        }
        None
    }

    fn is_at(&self, place: Place, terminal: u32) -> bool {
        self.terminals.get(terminal as usize).is_some_and(|there| place.reaches(*there))
    }

    /// The terminals of the cell and the eight around it: those in reach are among them.
    fn around(&self, place: Place) -> impl Iterator<Item = u32> {
        let (column, row) = place.cell();
        let side = |at: usize| at.saturating_sub(1)..std::cmp::min(at + 2, CELLS);
        side(column)
            .flat_map(move |column| side(row).map(move |row| column * CELLS + row))
            .filter_map(|cell| self.cells.get(cell))
            .flatten()
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_pay_only_within_their_reach_and_at_every_terminal_in_it() {
        let mut random = Random::seeded(3);
        let world = World::new(50, 2_000, &mut random);
        for customer in &world.customers {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..1_000 {
                seen.extend(world.terminal_near(customer, &mut random));
            }
            let near =
                |(number, place): (u32, &Place)| customer.place.reaches(*place).then_some(number);
            let expected = (0..).zip(&world.terminals).filter_map(near).collect();
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn without_a_terminal_everybody_stays_at_home() {
        let mut random = Random::seeded(3);
        let world = World::new(5, 0, &mut random);
        assert!(world.customers.iter().all(|customer| customer.payments_a_day == 0.0));
        assert_eq!(world.terminal_near(&world.customers[0], &mut random), None);
    }
}
