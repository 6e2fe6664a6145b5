use std::{borrow::Cow, error};

use tower::BoxError;

use crate::{
    ErrorKind, LlmError,
    providers::{
        protocol::{innermost, no_answer},
        transport::TransportError,
    },
};

/// Creates the error of a request that got no response.
pub(super) fn of_transport(error: BoxError) -> LlmError {
    let error = match error.downcast::<LlmError>() {
        Ok(own) => return *own,
        Err(error) => error,
    };
    let mut next = Some(&*error as &(dyn error::Error + 'static));
    while let Some(this) = next {
        if let Some(transport) = this.downcast_ref::<TransportError>() {
            let what: Cow<'static, str> = innermost(transport).into();
            return LlmError::new(ErrorKind::Connect, what).with_source(error);
        }
        next = this.source();
    }
    no_answer(error)
}
