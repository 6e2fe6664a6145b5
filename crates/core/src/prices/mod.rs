//! Costs of answers: an amount of money, a model's price, a table of prices.
//!
//! ```
//! use steadfast::{chat::Usage, prices::{Price, PriceTable, Usd}};
//!
//! let prices = PriceTable::builtin().with("my-model", Price::dollars(1.0, 4.0).unwrap());
//! let cost = prices.cost(None, "my-model", &Usage::new(10_000, 500)).unwrap();
//! assert_eq!(cost.to_string(), "$0.012");
//! assert_eq!(prices.cost(None, "somebody-elses-model", &Usage::new(1, 1)), None);
//! ```

mod off_peak;
#[doc(hidden)]
pub mod own_cost;
mod price;
mod table;

pub use crate::usd::Usd;

pub use self::{
    price::Price,
    table::{PriceTable, PricedNames},
};
