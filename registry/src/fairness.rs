//! So that one client leaves room for others. It knows neither HTTP nor the store.
//!
//! | room | what lives there |
//! |---|---|
//! | `concurrency_limit` | a number of places of which nobody takes all |
//! | `source` | where a connection comes from, as far as limits tell |

mod concurrency_limit;
mod source;

pub use self::concurrency_limit::{Admitted, ConcurrencyLimit};
pub use self::source::Source;
