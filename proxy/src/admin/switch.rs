//! The routes of the switch: orders, and what there is to see of it.

use backstop_contract::order::{Desk, What};
use backstop_contract::{Order, Problem};

use crate::admin::Admin;
use crate::http::{Answer, BodyFault, Incoming};

/// All of them begin so.
pub(super) const SWITCH: &str = "/admin/switch";
const HISTORY: &str = "/admin/switch/history";
/// A reason and a few words.
const ORDER_BYTES_MAX: usize = 16_384;

impl Admin {
    /// `POST` an order to its desk; `GET` the status, or the history.
    pub(super) async fn switch(&self, incoming: &mut Incoming<'_>) -> Result<Answer, Problem> {
        let (method, path) = (incoming.method().as_str(), incoming.path());
        let desk = Desk::ALL.into_iter().find(|desk| desk.path() == path);
        let seen = match (method, path) {
            ("GET", SWITCH) => self.switch.status(),
            ("GET", HISTORY) => self.switch.history_json(),
            ("POST", _) if desk.is_some() => {
                let desk = desk.ok_or_else(Problem::not_found)?;
                let order = self.order(desk, incoming).await?;
                self.switch.obey(order).await?.to_json()
            }
            (_, SWITCH) => return Err(Problem::method_not_allowed("GET, POST")),
            (_, HISTORY) => return Err(Problem::method_not_allowed("GET")),
            _ if desk.is_some() => return Err(Problem::method_not_allowed("POST")),
            _ => return Err(Problem::not_found()),
        };
        Ok(Answer::new(200, "application/json", seen.to_string()))
    }

    async fn order(&self, desk: Desk, incoming: &mut Incoming<'_>) -> Result<Order, Problem> {
        let body = incoming.body_within(ORDER_BYTES_MAX).await.map_err(|fault| match fault {
            BodyFault::TooLarge => Problem::too_large(ORDER_BYTES_MAX),
            BodyFault::Cut => Problem::not_json("the body did not come to its end"),
        })?;
        let order = Order::receive(desk, body)?;
        if let What::Pin { merchant, to: Some(_) } = &order.what {
            let merchants = self.merchants.load();
            if !merchants.iter().any(|(it, _)| it.name == *merchant) {
                let remedy = "send one that `backstop merchant list` names";
                return Err(Problem::field("/merchant", "there is no such merchant", remedy));
            }
        }
        Ok(order)
    }
}
