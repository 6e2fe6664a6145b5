use std::{borrow::Cow, error};

use tower::BoxError;

use crate::{
    ErrorKind, LlmError,
    protocol::{innermost, no_answer, of_body},
    transport::TransportError,
};

/// Creates the error of a request that got no response.
pub(crate) fn of_transport(error: BoxError) -> LlmError {
    let error = match error.downcast::<LlmError>() {
        Ok(own) => return *own,
        Err(error) => error,
    };
    match transport_error(&*error) {
        Some(transport) => {
            let (what, facts) = (innermost(transport), transport.facts());
            let what: Cow<'static, str> = match facts.is_local {
                true => format!("this machine's network: {what}").into(),
                false => what.into(),
            };
            LlmError::new(ErrorKind::Connect, what).with_source(error).with_network(facts)
        }
        None => no_answer(error),
    }
}

/// Gives the error of a body that broke off the facts of its connection, if the transport told them.
pub(crate) fn of_broken_body(error: BoxError) -> BoxError {
    match transport_error(&*error).map(TransportError::facts) {
        Some(facts) => of_body(error).with_network(facts).into(),
        None => error,
    }
}

fn transport_error<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a TransportError> {
    let mut next = Some(error);
    while let Some(this) = next {
        if let Some(transport) = this.downcast_ref() {
            return Some(transport);
        }
        next = this.source();
    }
    None
}
