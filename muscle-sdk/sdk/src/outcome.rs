//! What becomes of a function's result: an exit code, or the CBOR of an answer.
//!
//! The macros cannot see whether a type is a `Result` or what its error implements, but method calls can: of the
//! traits here the compiler takes the first whose method fits with the fewest dereferences.
//!
//! ```text
//!   (&&&outcome).report()   &&Outcome<()>, &&Outcome<ExitCode>        ReportPlain
//!                            &Outcome<Result<_, impl Display>>        ReportDisplay
//!                             Outcome<Result<_, impl Debug>>          ReportDebug
//!   (&&outcome).answer()      &Outcome<Result<_, impl Display>>       AnswerResult
//!                              Outcome<impl Serialize>                AnswerPlain
//! ```

use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::{Debug, Display};

use serde::Serialize;

use crate::{Error, ErrorCode, ExitCode, cbor};

/// A function's result, to be taken once.
pub struct Outcome<T>(Cell<Option<T>>);

impl<T> Outcome<T> {
    /// Wraps a result.
    pub fn new(value: T) -> Outcome<T> {
        Outcome(Cell::new(Some(value)))
    }

    fn take(&self) -> T {
        self.0.take().expect("the macros take an outcome once")
    }
}

/// A value that says how the muscle ends.
pub trait Ending {
    /// The exit code.
    fn code(self) -> ExitCode;
}

impl Ending for () {
    fn code(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl Ending for ExitCode {
    fn code(self) -> ExitCode {
        self
    }
}

/// Reports a value that cannot fail.
pub trait ReportPlain {
    /// The exit code, after all output is handed over.
    fn report(&self) -> u8;
}

impl<T: Ending> ReportPlain for &&Outcome<T> {
    fn report(&self) -> u8 {
        end(self.take().code())
    }
}

/// Reports an error by its `Display`.
pub trait ReportDisplay {
    /// The exit code, after all output is handed over.
    fn report(&self) -> u8;
}

impl<T: Ending, E: Display> ReportDisplay for &Outcome<Result<T, E>> {
    fn report(&self) -> u8 {
        match self.take() {
            Ok(value) => end(value.code()),
            Err(error) => {
                crate::eprintln!("error: {error}");
                end(ExitCode::FAILURE)
            }
        }
    }
}

/// Reports an error by its `Debug`.
pub trait ReportDebug {
    /// The exit code, after all output is handed over.
    fn report(&self) -> u8;
}

impl<T: Ending, E: Debug> ReportDebug for Outcome<Result<T, E>> {
    fn report(&self) -> u8 {
        match self.take() {
            Ok(value) => end(value.code()),
            Err(error) => {
                crate::eprintln!("error: {error:?}");
                end(ExitCode::FAILURE)
            }
        }
    }
}

fn end(code: ExitCode) -> u8 {
    guest_runtime::console::flush();
    code.number()
}

/// Answers with a value, or with the text of an error.
pub trait AnswerResult {
    /// The CBOR of the answer.
    ///
    /// # Errors
    /// [`ErrorCode::Application`] with the error's text.
    fn answer(&self) -> crate::Result<Vec<u8>>;
}

impl<T: Serialize, E: Display> AnswerResult for &Outcome<Result<T, E>> {
    fn answer(&self) -> crate::Result<Vec<u8>> {
        match self.take() {
            Ok(value) => encode(&value),
            Err(error) => Err(Error::new(ErrorCode::Application, error.to_string())),
        }
    }
}

/// Answers with a value.
pub trait AnswerPlain {
    /// The CBOR of the answer.
    ///
    /// # Errors
    /// [`ErrorCode::Application`] when the value cannot be serialised.
    fn answer(&self) -> crate::Result<Vec<u8>>;
}

impl<T: Serialize> AnswerPlain for Outcome<T> {
    fn answer(&self) -> crate::Result<Vec<u8>> {
        encode(&self.take())
    }
}

fn encode<T: Serialize>(value: &T) -> crate::Result<Vec<u8>> {
    cbor::to_vec(value).map_err(|error| Error::new(ErrorCode::Application, error.to_string()))
}

#[cfg(test)]
// What the macros write, for every type.
#[allow(clippy::needless_borrow)]
mod tests {
    use super::*;

    /// Implements `Debug` and not `Display`.
    #[derive(Debug)]
    struct Silent;

    #[test]
    fn endings_become_exit_codes() {
        assert_eq!((&&&Outcome::new(())).report(), 0);
        assert_eq!((&&&Outcome::new(ExitCode::from(7))).report(), 7);
        assert_eq!((&&&Outcome::new(Ok::<(), &str>(()))).report(), 0);
        assert_eq!((&&&Outcome::new(Err::<(), &str>("no such file"))).report(), 1);
        assert_eq!((&&&Outcome::new(Err::<ExitCode, Silent>(Silent))).report(), 1);
        assert_eq!(
            (&&&Outcome::new(Ok::<ExitCode, Silent>(ExitCode::from(3)))).report(),
            3
        );
    }

    #[test]
    fn results_answer_with_their_value_or_the_text_of_their_error() {
        assert_eq!((&&Outcome::new(7_u8)).answer(), Ok(alloc::vec![7]));
        assert_eq!((&&Outcome::new(Ok::<u8, &str>(7))).answer(), Ok(alloc::vec![7]));
        assert_eq!(
            (&&Outcome::new(Err::<u8, &str>("too dear"))).answer(),
            Err(Error::new(ErrorCode::Application, "too dear"))
        );
    }
}
