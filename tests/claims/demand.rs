//! What is wanted of which article, how much there is of it, and a model that knows how much of it any
//! order of the claims can grant.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// Real orders, where they are at hand.
const ORDERS: &str = "../shared/data/orders_main.csv.gz";
/// Their lines, unless `BACKSTOP_CLAIMS_LIMIT` says otherwise.
const ORDERS_MAX: usize = 400_000;
const GENERATED: u64 = 4_000;
const ARTICLES: u64 = 40;
const ACCOUNTS: u64 = 300;

/// One claim on stock.
#[derive(Clone, Debug)]
pub struct Claim {
    pub id: String,
    pub account: String,
    pub sku: String,
    pub qty: i64,
}

/// Claims in order of time, and articles that will run out.
pub struct Demand {
    pub claims: Vec<Claim>,
    pub articles: BTreeMap<String, Article>,
}

/// One article.
pub struct Article {
    /// How much there is at first: four fifths of what is wanted.
    pub cap: i64,
    /// The least and the most that any order of the claims can grant. Where they are the same, the
    /// order cannot matter.
    pub possible: (i64, i64),
    /// What a model grants that takes the claims one after the other.
    pub in_order: i64,
    /// Whether all claims want the same.
    pub is_uniform: bool,
}

impl Demand {
    /// The long form with `BACKSTOP_CLAIMS=full`, else a short one.
    pub fn chosen() -> Self {
        if is_full() { Self::of(orders()) } else { Self::of(generated().collect()) }
    }

    fn of(claims: Vec<Claim>) -> Self {
        let mut wanted: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for claim in &claims {
            wanted.entry(&claim.sku).or_default().push(claim.qty);
        }
        let article = |(sku, wanted): (&str, Vec<i64>)| (sku.to_owned(), Article::new(wanted));
        Self { articles: wanted.into_iter().map(article).collect(), claims }
    }
}

impl Article {
    fn new(mut wanted: Vec<i64>) -> Self {
        let cap = wanted.iter().sum::<i64>() * 4 / 5;
        let in_order = greedy(&wanted, cap);
        wanted.sort_unstable();
        let is_uniform = wanted.first() == wanted.last();
        Self { cap, possible: possible(&wanted, cap), in_order, is_uniform }
    }

    /// Whether any order of the claims grants the same.
    pub fn is_certain(&self) -> bool {
        self.possible.0 == self.possible.1
    }
}

/// Whether this is the long form.
pub fn is_full() -> bool {
    std::env::var("BACKSTOP_CLAIMS").is_ok_and(|form| form == "full")
}

/// What is granted in all, each claim in its turn getting all that it wants or nothing.
pub fn greedy(wanted: &[i64], cap: i64) -> i64 {
    wanted.iter().fold(0, |granted, qty| if granted + qty <= cap { granted + qty } else { granted })
}

/// The least and the most that is granted in all, over every order of these claims, ascending.
///
/// Whatever the order, what is granted is a set to which none of the others could be added; and any such
/// set is granted by the order that begins with it. So take each claim in turn as the smallest one that
/// is refused: all before it are granted, and of those behind it any that leave too little for it.
pub fn possible(ascending: &[i64], cap: i64) -> (i64, i64) {
    let size = |qty: i64| usize::try_from(qty).unwrap();
    let total: i64 = ascending.iter().sum();
    if total <= cap {
        return (total, total);
    }
    let (mut before, mut least) = (total, cap);
    let mut sums = Sums::up_to(size(cap));
    for &qty in ascending.iter().rev() {
        before -= qty;
        if before <= cap {
            // Too little for this one; for one that wants more than there ever was, anything is.
            let enough = std::cmp::max(cap - qty + 1 - before, 0);
            if let Some(behind) = sums.first_from(size(enough), size(cap - before)) {
                least = std::cmp::min(least, before + i64::try_from(behind).unwrap());
            }
        }
        sums.add(size(qty));
    }
    (least, i64::try_from(sums.last()).unwrap())
}

/// The sums of all subsets, up to a cap: a bit for each.
struct Sums {
    words: Vec<u64>,
    cap: usize,
}

impl Sums {
    /// Of nothing: zero.
    fn up_to(cap: usize) -> Self {
        let mut words = vec![0; cap / 64 + 1];
        words[0] = 1;
        Self { words, cap }
    }

    /// Each sum, with this and without it.
    fn add(&mut self, number: usize) {
        let (whole, bits) = (number / 64, number % 64);
        for place in (whole..self.words.len()).rev() {
            let mut shifted = self.words[place - whole] << bits;
            if bits > 0 && place > whole {
                shifted |= self.words[place - whole - 1] >> (64 - bits);
            }
            self.words[place] |= shifted;
        }
    }

    fn has(&self, sum: usize) -> bool {
        self.words[sum / 64] >> (sum % 64) & 1 == 1
    }

    fn first_from(&self, from: usize, to: usize) -> Option<usize> {
        (from..=to).find(|sum| self.has(*sum))
    }

    fn last(&self) -> usize {
        (0..=self.cap).rev().find(|sum| self.has(*sum)).unwrap()
    }
}

/// A few articles that everybody wants, and many that few do. Of every other one all claims want the
/// same, so that their order cannot matter.
fn generated() -> impl Iterator<Item = Claim> {
    (0..GENERATED).map(|number| {
        let dice = mixed(number);
        let (low, high) = (dice % ARTICLES, dice / ARTICLES % ARTICLES);
        let article = low * high / ARTICLES;
        let qty = if article.is_multiple_of(2) { 1 + article % 5 } else { 1 + dice / 7_919 % 9 };
        Claim {
            id: format!("claim-{number}"),
            account: format!("customer-{}", dice / 104_729 % ACCOUNTS),
            sku: format!("{article:05}"),
            qty: qty.cast_signed(),
        }
    })
}

/// Splitmix64: as good as chance, and the same each time.
pub fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The lines of real orders, in order of time; a guest has an account for each order.
fn orders() -> Vec<Claim> {
    let limit = std::env::var("BACKSTOP_CLAIMS_LIMIT").ok();
    let limit = limit.map_or(ORDERS_MAX, |limit| limit.parse().expect("a number of claims"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(ORDERS);
    let file = std::fs::File::open(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let claim = |line: &str| {
        let mut columns = line.split(',');
        let mut next = || columns.next().unwrap_or_else(|| panic!("a column of {line}"));
        let (line_id, _ts, order, kind, customer) = (next(), next(), next(), next(), next());
        let (sku, qty) = (next(), next());
        let account = if customer.is_empty() {
            format!("guest-{order}")
        } else {
            format!("customer-{customer}")
        };
        let qty = qty.parse().unwrap();
        let claim = Claim { id: format!("line-{line_id}"), account, sku: sku.to_owned(), qty };
        (kind == "order").then_some(claim)
    };
    text.lines().skip(1).filter_map(claim).take(limit).collect()
}
