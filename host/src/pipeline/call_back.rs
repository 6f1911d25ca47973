//! A message that its carrier has already, asked back.

use super::Pipeline;
use crate::carrier::CallBackError;
use crate::domain::{Message, State};

impl Pipeline {
    /// Has the carrier forget a message that it took; an error where it did not, or may not have.
    /// The record is the caller's to change.
    pub async fn call_back(&self, message: &Message) -> Result<(), CallBackError> {
        let carrier = message.parts.first().map(|p| &p.carrier);
        match carrier.and_then(|id| self.carriers.get(id)) {
            Some(carrier) if message.state == State::Enroute => carrier.call_back(message).await,
            _ => Err(CallBackError::NotSupported),
        }
    }
}
