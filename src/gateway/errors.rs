//! From a domain's refusal to what the API says: one mapping, used by every resolver.
//!
//! What a caller of a mutation can do something about is a `UserError` of its payload, with the path of the input that
//! it is about. In queries the same is a top-level error. Faults (a store is away, no answer in time, a bug) are
//! top-level everywhere, logged once here with the request id, and never tell their cause.

use std::fmt;

use async_graphql::{Context, Enum, Error, Interface, SimpleObject, Value};

use super::context::RequestInfo;
pub use super::top_level_errors::{
    Code, INTERNAL_MESSAGE, code_for_request_error, finish_error, finish_response, refine_value_errors,
};
use crate::actors::errors::{DomainError, FieldPath};
use crate::domain::inventory::Shortage;
use crate::gateway::rate_limits::RetryAfter;

/// Why a mutation did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum ErrorCode {
    /// A value is not allowed: empty, too long, out of range, of another currency.
    InvalidInput,
    /// There is no such object, or it is not yours.
    NotFound,
    /// You may not do this.
    Forbidden,
    /// The object has changed since you read it: read it again.
    Conflict,
    /// Something with this name exists already.
    Duplicate,
    /// An account with this e-mail address exists already.
    EmailTaken,
    /// The e-mail address or the password is wrong.
    InvalidCredentials,
    /// The token is unknown, expired or used up.
    TokenInvalid,
    /// The password is too short, too long or too simple.
    WeakPassword,
    /// There are fewer pieces in stock than were ordered.
    InsufficientStock,
    /// The product is no longer sold.
    ProductUnavailable,
    /// The order's present status does not allow this.
    IllegalTransition,
    /// The idempotency key was used before, with other input.
    IdempotencyKeyReused,
    /// Too many attempts: come back later.
    RateLimited,
    /// The shop has too much to do just now: come back later.
    Busy,
}

/// Something that the caller can correct or try again.
#[derive(Interface, Clone)]
#[graphql(
    field(name = "code", ty = "&ErrorCode", desc = "The kind of the error, for programs."),
    field(name = "message", ty = "&String", desc = "The error in words, for people."),
    field(
        name = "field",
        ty = "&Option<Vec<String>>",
        desc = "The input that it is about, from the argument inward: `[\"input\", \"lines\", \"0\", \"quantity\"]`."
    )
)]
pub enum UserError {
    InputError(InputError),
    InsufficientStockError(InsufficientStockError),
    RetryLaterError(RetryLaterError),
}

/// An input that was refused.
#[derive(SimpleObject, Clone)]
pub struct InputError {
    /// The kind of the error, for programs.
    pub code: ErrorCode,
    /// The error in words, for people.
    pub message: String,
    /// The input that it is about, from the argument inward.
    pub field: Option<Vec<String>>,
}

/// Of one product fewer pieces are in stock than were ordered.
#[derive(SimpleObject, Clone)]
pub struct InsufficientStockError {
    /// Always INSUFFICIENT_STOCK.
    pub code: ErrorCode,
    /// The error in words, for people.
    pub message: String,
    /// The first line that orders the product.
    pub field: Option<Vec<String>>,
    /// The product.
    pub product_id: async_graphql::ID,
    /// How many pieces were ordered, over all lines.
    pub requested: i32,
    /// How many pieces were in stock when it was decided.
    pub available: i32,
}

/// BUSY or RATE_LIMITED: come back after `retryAfterMs`.
#[derive(SimpleObject, Clone)]
pub struct RetryLaterError {
    /// BUSY or RATE_LIMITED.
    pub code: ErrorCode,
    /// The error in words, for people.
    pub message: String,
    /// Always null: no input is to blame.
    pub field: Option<Vec<String>>,
    /// How long to wait before the next attempt, in milliseconds.
    pub retry_after_ms: i32,
}

impl UserError {
    /// A refused input.
    pub fn input(code: ErrorCode, message: impl fmt::Display, field: Option<FieldPath>) -> Self {
        Self::InputError(InputError { code, message: message.to_string(), field })
    }

    /// A product of which there is too little; `name` is for the words.
    pub fn shortage(shortage: &Shortage, name: &str, field: Option<FieldPath>) -> Self {
        let Shortage { product_id, requested, available } = *shortage;
        let message = match available {
            ..=0 => format!("{name} is out of stock, {requested} were ordered"),
            1 => format!("only 1 piece of {name} is in stock, {requested} were ordered"),
            _ => format!("only {available} pieces of {name} are in stock, {requested} were ordered"),
        };
        Self::InsufficientStockError(InsufficientStockError {
            code: ErrorCode::InsufficientStock,
            message,
            field,
            product_id: product_id.to_string().into(),
            requested: i32::try_from(requested).unwrap_or(i32::MAX),
            available,
        })
    }

    fn retry_later(code: ErrorCode, message: &str, retry_after_ms: u128) -> Self {
        let retry_after_ms = i32::try_from(retry_after_ms).unwrap_or(i32::MAX).max(1);
        Self::RetryLaterError(RetryLaterError { code, message: message.into(), field: None, retry_after_ms })
    }
}

impl From<RetryAfter> for UserError {
    fn from(RetryAfter(wait): RetryAfter) -> Self {
        // Up to a whole millisecond: who comes back in time must not be refused again.
        Self::retry_later(
            ErrorCode::RateLimited,
            "too many attempts, try again later",
            wait.as_micros().div_ceil(1_000),
        )
    }
}

/// An input that the gateway itself refuses, with its path from the input inward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub field: FieldPath,
    pub reason: String,
}

impl Problem {
    pub fn new(field: &str, reason: impl fmt::Display) -> Self {
        Self { field: crate::actors::errors::path(field), reason: reason.to_string() }
    }

    /// The same problem, seen from one level further out.
    pub fn within(mut self, outer: &str) -> Self {
        self.field.insert(0, outer.to_owned());
        self
    }
}

impl From<Problem> for DomainError {
    fn from(problem: Problem) -> Self {
        Self::InvalidInput { field: problem.field, reason: problem.reason }
    }
}

/// Where a mutation's inputs stand among its arguments, so that a message's field names become the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// What stands before the message's field names: `input` for mutations with an input object.
    pub within: Option<&'static str>,
    /// The argument that names the object which the mutation is about.
    pub subject: Option<&'static str>,
    /// Names of the message that are others among the arguments.
    pub renamed: &'static [(&'static str, &'static str)],
}

impl Inputs {
    /// Arguments that are called as the message's fields are.
    pub const PLAIN: Self = Self { within: None, subject: None, renamed: &[] };
    /// Everything is in `input`.
    pub const OBJECT: Self = Self { within: Some("input"), ..Self::PLAIN };

    pub const fn about(self, subject: &'static str) -> Self {
        Self { subject: Some(subject), ..self }
    }

    pub const fn renaming(self, renamed: &'static [(&'static str, &'static str)]) -> Self {
        Self { renamed, ..self }
    }

    fn path(&self, field: FieldPath) -> Option<FieldPath> {
        let field = match field.as_slice() {
            [] => return None,
            [only] => match self.renamed.iter().find(|(name, _)| name == only) {
                Some((_, argument)) => vec![(*argument).to_owned()],
                None => field,
            },
            _ => field,
        };
        Some(self.within.map(str::to_owned).into_iter().chain(field).collect())
    }

    fn named(&self, name: &str) -> Option<FieldPath> {
        self.path(vec![name.to_owned()])
    }

    fn subject(&self) -> Option<FieldPath> {
        self.subject.map(|subject| vec![subject.to_owned()])
    }
}

/// The errors of a mutation's payload, or the fault that is answered instead of a payload.
pub fn user_errors(ctx: &Context<'_>, inputs: Inputs, error: DomainError) -> Result<Vec<UserError>, Error> {
    refusals(inputs, error).map_err(|fault| top_level(ctx.data_opt(), fault))
}

/// The refusals in an error; what is a fault comes back.
fn refusals(inputs: Inputs, error: DomainError) -> Result<Vec<UserError>, DomainError> {
    let message = error.to_string();
    let one = |code, field| Ok(vec![UserError::input(code, &message, field)]);
    match error {
        DomainError::InvalidInput { field, .. } => one(ErrorCode::InvalidInput, inputs.path(field)),
        DomainError::NotFound { field, .. } => {
            one(ErrorCode::NotFound, inputs.subject().or_else(|| inputs.path(field)))
        }
        DomainError::VersionConflict { .. } => one(ErrorCode::Conflict, inputs.named("expectedVersion")),
        DomainError::DeadLetterDiscarded { field } => one(ErrorCode::Conflict, inputs.path(field)),
        DomainError::SkuTaken => one(ErrorCode::Duplicate, inputs.named("sku")),
        DomainError::EmailTaken => one(ErrorCode::EmailTaken, inputs.named("email")),
        DomainError::InvalidCredentials => one(ErrorCode::InvalidCredentials, None),
        DomainError::WrongPassword => one(ErrorCode::InvalidCredentials, inputs.named("currentPassword")),
        DomainError::TokenInvalid => one(ErrorCode::TokenInvalid, inputs.named("token")),
        DomainError::WeakPassword(_) => one(ErrorCode::WeakPassword, inputs.named("password")),
        DomainError::InsufficientStock(shortages) => {
            Ok(shortages.iter().map(|short| UserError::shortage(short, "a product", None)).collect())
        }
        DomainError::ProductUnavailable { field, .. } => one(ErrorCode::ProductUnavailable, inputs.path(field)),
        DomainError::IllegalTransition(_) => one(ErrorCode::IllegalTransition, inputs.subject()),
        DomainError::IdempotencyKeyReused => one(ErrorCode::IdempotencyKeyReused, inputs.named("idempotencyKey")),
        DomainError::Busy { retry_after_ms } => Ok(vec![UserError::retry_later(
            ErrorCode::Busy,
            "the shop has too much to do just now, try again",
            retry_after_ms.into(),
        )]),
        fault @ (DomainError::Unavailable(_) | DomainError::Timeout | DomainError::Internal(_)) => Err(fault),
    }
}

/// An error as a query answers it. Its cause is logged here, once.
pub fn query_error(ctx: &Context<'_>, error: DomainError) -> Error {
    top_level(ctx.data_opt(), error)
}

/// A top-level error; see [`query_error`]. For streams, which outlive their context.
pub fn top_level(info: Option<&RequestInfo>, error: DomainError) -> Error {
    let request_id = info.map_or("-", |info| &info.ids.request);
    match error {
        DomainError::InvalidInput { field, reason } => bad_input(&field.join("."), reason),
        DomainError::Busy { retry_after_ms } => {
            let mut error = Code::Busy.error("the shop has too much to do just now, try again");
            error.extensions.get_or_insert_default().set("retryAfterMs", retry_after_ms);
            error
        }
        DomainError::Unavailable(cause) => {
            tracing::warn!(request_id, cause, "could not answer: a part of the shop is away");
            Code::Unavailable.error("a part of the shop is not available just now, try again")
        }
        DomainError::Timeout => {
            tracing::warn!(request_id, "could not answer in time");
            Code::Timeout.error("there was no answer in time")
        }
        DomainError::Internal(cause) => {
            tracing::error!(request_id, cause, "could not answer: a fault of the program");
            Code::InternalServerError.error(INTERNAL_MESSAGE)
        }
        refusal => Code::BadUserInput.error(refusal.to_string()),
    }
}

/// An argument of a query or subscription that is refused.
pub fn bad_input(field: &str, reason: impl fmt::Display) -> Error {
    let mut error = Code::BadUserInput.error(reason.to_string());
    let path = field.split('.').filter(|part| !part.is_empty()).map(|part| Value::String(part.to_owned())).collect();
    error.extensions.get_or_insert_default().set("field", Value::List(path));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::errors::path;
    use crate::domain::ids::{ProductId, TypedId};
    use crate::domain::orders::{IllegalTransition, OrderStatus};
    use uuid::Uuid;

    fn single(inputs: Inputs, error: DomainError) -> (ErrorCode, Option<String>) {
        match refusals(inputs, error).unwrap().remove(0) {
            UserError::InputError(error) => (error.code, error.field.map(|field| field.join("."))),
            UserError::InsufficientStockError(error) => (error.code, None),
            UserError::RetryLaterError(error) => (error.code, Some(error.retry_after_ms.to_string())),
        }
    }

    #[test]
    fn a_refusal_names_the_callers_own_input() {
        let about_id = Inputs::PLAIN.about("id");
        let update = Inputs::OBJECT.about("id");
        let invalid = |field| DomainError::invalid(field, "no");
        let missing = |field| DomainError::NotFound { what: "it", field: path(field) };
        let illegal = IllegalTransition { from: OrderStatus::Shipped, to: OrderStatus::Cancelled };
        let product_id = ProductId::from_uuid(Uuid::nil());
        let cancel = about_id.renaming(&[("note", "reason")]);
        let refresh = Inputs::PLAIN.renaming(&[("token", "refreshToken")]);
        let change = Inputs::PLAIN.renaming(&[("password", "newPassword")]);
        let cases = [
            (Inputs::OBJECT, invalid("lines.0.quantity"), ErrorCode::InvalidInput, Some("input.lines.0.quantity")),
            (cancel, invalid("note"), ErrorCode::InvalidInput, Some("reason")),
            (Inputs::OBJECT, missing("lines.1.productId"), ErrorCode::NotFound, Some("input.lines.1.productId")),
            (update, missing("id"), ErrorCode::NotFound, Some("id")),
            (about_id, missing(""), ErrorCode::NotFound, Some("id")),
            (update, DomainError::VersionConflict { current: 2 }, ErrorCode::Conflict, Some("input.expectedVersion")),
            (about_id, DomainError::VersionConflict { current: 2 }, ErrorCode::Conflict, Some("expectedVersion")),
            (
                Inputs::PLAIN,
                DomainError::DeadLetterDiscarded { field: path("ids.1") },
                ErrorCode::Conflict,
                Some("ids.1"),
            ),
            (Inputs::OBJECT, DomainError::SkuTaken, ErrorCode::Duplicate, Some("input.sku")),
            (Inputs::OBJECT, DomainError::EmailTaken, ErrorCode::EmailTaken, Some("input.email")),
            (Inputs::OBJECT, DomainError::InvalidCredentials, ErrorCode::InvalidCredentials, None),
            (refresh, DomainError::TokenInvalid, ErrorCode::TokenInvalid, Some("refreshToken")),
            (Inputs::PLAIN, DomainError::TokenInvalid, ErrorCode::TokenInvalid, Some("token")),
            (change, DomainError::WeakPassword("x".into()), ErrorCode::WeakPassword, Some("newPassword")),
            (change, DomainError::WrongPassword, ErrorCode::InvalidCredentials, Some("currentPassword")),
            (Inputs::OBJECT, DomainError::WeakPassword("x".into()), ErrorCode::WeakPassword, Some("input.password")),
            (about_id, illegal.into(), ErrorCode::IllegalTransition, Some("id")),
            (
                Inputs::OBJECT,
                DomainError::IdempotencyKeyReused,
                ErrorCode::IdempotencyKeyReused,
                Some("input.idempotencyKey"),
            ),
            (
                Inputs::OBJECT,
                DomainError::ProductUnavailable { product_id, field: path("lines.0.productId") },
                ErrorCode::ProductUnavailable,
                Some("input.lines.0.productId"),
            ),
            (Inputs::PLAIN, DomainError::Busy { retry_after_ms: 250 }, ErrorCode::Busy, Some("250")),
        ];
        for (inputs, error, code, field) in cases {
            let words = error.to_string();
            assert_eq!(single(inputs, error), (code, field.map(str::to_owned)), "{words}");
        }
    }

    #[test]
    fn a_fault_is_never_a_user_error_and_never_tells_its_cause() {
        let secret = "disk /var/lib/souk is full";
        for (fault, code) in [
            (DomainError::Unavailable(secret.into()), Code::Unavailable),
            (DomainError::Timeout, Code::Timeout),
            (DomainError::Internal(secret.into()), Code::InternalServerError),
        ] {
            let fault = refusals(Inputs::PLAIN, fault).err().unwrap();
            let error = top_level(None, fault);
            assert!(!error.message.contains(secret));
            assert_eq!(error.extensions.unwrap().get("code"), Some(&Value::from(code.as_str())));
        }
    }

    #[test]
    fn a_shortage_is_said_in_numbers_and_in_words() {
        let shortage = Shortage { product_id: ProductId::from_uuid(Uuid::nil()), requested: 5, available: 2 };
        let UserError::InsufficientStockError(error) = UserError::shortage(&shortage, "Brass Lamp", None) else {
            panic!("a shortage is an InsufficientStockError");
        };
        assert_eq!((error.requested, error.available), (5, 2));
        assert_eq!(error.message, "only 2 pieces of Brass Lamp are in stock, 5 were ordered");
    }

    #[test]
    fn a_rate_limit_rounds_up() {
        let UserError::RetryLaterError(error) = RetryAfter(std::time::Duration::from_micros(1_001)).into() else {
            panic!("a rate limit is a RetryLaterError");
        };
        assert_eq!((error.code, error.retry_after_ms), (ErrorCode::RateLimited, 2));
    }
}
